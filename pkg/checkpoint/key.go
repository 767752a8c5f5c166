package checkpoint

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// ErrNoKey is the error about a text that is no key of the kind that is asked for.
var ErrNoKey = errors.New("not a key")

// validName reports whether a key and a log may have this name: note's rule, and no control
// characters, since it is printed.
func validName(name string) bool {
	return name != "" && len(name) <= 255 && utf8.ValidString(name) && !strings.Contains(name, "+") &&
		!strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
}

// Generate makes an Ed25519 key of the name: secret is what signs (ReadSigner), public what checks
// (ReadVerifiers), each one line without its end.
func Generate(name string) (secret, public string, err error) {
	if !validName(name) {
		return "", "", fmt.Errorf("%.80q is no name of a key: it has no spaces, no +, and at most 255 bytes", name)
	}
	return note.GenerateKey(rand.Reader, name)
}

// ReadSigner reads a secret key, one line as Generate makes it. Its error never has a part of
// the key. Error: ErrNoKey.
func ReadSigner(secret string) (note.Signer, error) {
	s, err := note.NewSigner(strings.TrimSpace(secret))
	if err != nil {
		return nil, fmt.Errorf("%w: a secret key is one line, PRIVATE+KEY+name+hash+base64", ErrNoKey)
	}
	return s, nil
}

// algEd25519 is note's byte before a key of Ed25519.
const algEd25519 = 1

// Public returns the public part of a secret key. Error: ErrNoKey.
func Public(secret string) (string, error) {
	s, err := ReadSigner(secret)
	if err != nil {
		return "", err
	}
	// ReadSigner has seen all five parts: PRIVATE, KEY, the name, the hash, the kind and the seed.
	parts := strings.SplitN(strings.TrimSpace(secret), "+", 5)
	key, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(key) != 1+ed25519.SeedSize || key[0] != algEd25519 {
		return "", fmt.Errorf("%w: it is not Ed25519's", ErrNoKey)
	}
	return note.NewEd25519VerifierKey(s.Name(), ed25519.NewKeyFromSeed(key[1:]).Public().(ed25519.PublicKey))
}

// ReadVerifiers reads public keys, a line each as Generate makes them; empty lines and those that
// begin with # are passed over. Error: ErrNoKey, which says what a secret key is if it gets one.
func ReadVerifiers(text string) ([]note.Verifier, error) {
	var out []note.Verifier
	text = strings.TrimPrefix(text, "\ufeff") // as some editors begin a file
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasPrefix(line, "PRIVATE+KEY+") {
			return nil, fmt.Errorf("%w: line %d is a secret key, which signs: give its public part, and keep this one where it is", ErrNoKey, i+1)
		}
		v, err := note.NewVerifier(line)
		if err != nil || !validName(v.Name()) {
			return nil, fmt.Errorf("%w: line %d, %.100q, is not name+hash+base64 as 'collector seal init' prints it", ErrNoKey, i+1, line)
		}
		out = append(out, v)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: no line with one", ErrNoKey)
	}
	return out, nil
}
