// Evaluates expressions with Flux's envsubst, for a comparison: a JSON list of [text, variables] on standard input, a JSON
// list of [output, error] on standard output.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/pkg/envsubst"
)

type request struct {
	Text      string            `json:"text"`
	Variables map[string]string `json:"variables"`
}

type answer struct {
	Output []byte `json:"output"`
	Error  string `json:"error"`
}

func evaluate(r request) (a answer) {
	defer func() {
		if failure := recover(); failure != nil {
			a = answer{Error: fmt.Sprint("panic: ", failure)}
		}
	}()
	output, err := envsubst.Eval(r.Text, func(name string) (string, bool) {
		value, there := r.Variables[name]
		return value, there
	})
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Output: []byte(output)}
}

func main() {
	var requests []request
	if err := json.NewDecoder(os.Stdin).Decode(&requests); err != nil {
		panic(err)
	}
	answers := []answer{}
	for _, r := range requests {
		answers = append(answers, evaluate(r))
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		panic(err)
	}
}
