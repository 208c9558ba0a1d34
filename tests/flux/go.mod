// The flux that plumbline-sync is tested with. It is built in a copy of its own source, with its own go.mod and go.sum: here is only which.
module plumbline.dev/tests/flux

go 1.26.0

require github.com/fluxcd/flux2/v2 v2.9.5
