// A Git server for one cluster: git http-backend on the repositories below a directory, which anybody may push to.
package main

import (
	"log"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
)

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: gitserver DIRECTORY REPOSITORY...")
	}
	root := os.Args[1]
	for _, name := range os.Args[2:] {
		path := filepath.Join(root, name)
		create := exec.Command("git", "init", "--quiet", "--bare", "--initial-branch=main", path)
		if out, err := create.CombinedOutput(); err != nil {
			log.Fatalf("git init %s: %v: %s", path, err, out)
		}
		allow := exec.Command("git", "-C", path, "config", "http.receivepack", "true")
		if out, err := allow.CombinedOutput(); err != nil {
			log.Fatalf("git config in %s: %v: %s", path, err, out)
		}
	}
	git, err := exec.LookPath("git")
	if err != nil {
		log.Fatal(err)
	}
	handler := &cgi.Handler{
		Path:       git,
		Args:       []string{"http-backend"},
		Env:        []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"},
		InheritEnv: []string{"PATH", "HOME"},
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		log.Print(r.Method, " ", r.URL)
		// net/http/cgi names every header but this one, without which git answers in protocol 0.
		one := *handler
		one.Env = append(one.Env, "GIT_PROTOCOL="+r.Header.Get("Git-Protocol"))
		one.ServeHTTP(w, r)
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
