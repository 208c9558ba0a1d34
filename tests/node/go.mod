// Small programs for the pods of the node that the end-to-end tests run on.
module plumbline.dev/tests/node

go 1.26.0
