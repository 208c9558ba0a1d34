// Renders templates with the real sprig, for a comparison: a JSON list of [template, context] on standard input, a JSON
// list of [output, error] on standard output, bytes in base64.
package main

import (
	"bytes"
	"encoding/json"
	"os"
	"text/template"

	"github.com/Masterminds/sprig/v3"
)

type request struct {
	Template string            `json:"template"`
	Context  map[string][]byte `json:"context"`
}

type answer struct {
	Output []byte `json:"output"`
	Error  string `json:"error"`
}

func render(r request) (a answer) {
	functions := sprig.GenericFuncMap()
	for _, name := range []string{"env", "expandenv", "getHostByName"} {
		delete(functions, name)
	}
	context := map[string]string{}
	for key, value := range r.Context {
		context[key] = string(value)
	}
	parsed, err := template.New("x").Funcs(functions).Parse(r.Template)
	if err != nil {
		return answer{Error: err.Error()}
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, context); err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Output: out.Bytes()}
}

func main() {
	var requests []request
	if err := json.NewDecoder(os.Stdin).Decode(&requests); err != nil {
		panic(err)
	}
	answers := []answer{}
	for _, r := range requests {
		answers = append(answers, render(r))
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		panic(err)
	}
}
