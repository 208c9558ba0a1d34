// The original age, for tests in both directions: standard input is encrypted or decrypted to standard output.
// The command line tool itself takes passphrases from a terminal only.
package main

import (
	"io"
	"os"

	"filippo.io/age"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func recipient(kind, key string) age.Recipient {
	if kind == "passphrase" {
		r, err := age.NewScryptRecipient(key)
		check(err)
		r.SetWorkFactor(10)
		return r
	}
	r, err := age.ParseX25519Recipient(key)
	check(err)
	return r
}

func identity(kind, key string) age.Identity {
	if kind == "passphrase" {
		i, err := age.NewScryptIdentity(key)
		check(err)
		return i
	}
	i, err := age.ParseX25519Identity(key)
	check(err)
	return i
}

// Arguments: encrypt or decrypt, key or passphrase, and that.
func main() {
	verb, kind, key := os.Args[1], os.Args[2], os.Args[3]
	if verb == "encrypt" {
		w, err := age.Encrypt(os.Stdout, recipient(kind, key))
		check(err)
		_, err = io.Copy(w, os.Stdin)
		check(err)
		check(w.Close())
		return
	}
	r, err := age.Decrypt(os.Stdin, identity(kind, key))
	check(err)
	_, err = io.Copy(os.Stdout, r)
	check(err)
}
