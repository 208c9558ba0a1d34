// The application of the end-to-end story: prints the variables that it is named, and serves them.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	var shown strings.Builder
	for _, name := range os.Args[1:] {
		fmt.Fprintf(&shown, "%s=%s\n", name, os.Getenv(name))
	}
	fmt.Print(shown.String())
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-ended
		os.Exit(0)
	}()
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, shown.String())
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
