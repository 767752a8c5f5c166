package psktls

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
)

// maxAllowedLine is the longest line of a file of allowed clients, as in audit 4.2.
const maxAllowedLine = 510

// Allowed is what a file of tls_allowed_clients says: which identities may connect, and with
// which keys. It does not change; a reload makes another.
type Allowed struct {
	clients map[string]*client
	paths   map[string]*client // by the file of its key
	shared  []byte             // the key of tls_psk_file, for a file without key=
	enabled int
	keyed   bool
}

type client struct {
	line    int
	enabled bool
	path    string
	key     []byte
}

// LoadAllowed reads a file of tls_allowed_clients. It has an entry a line: identity, enabled
// or disabled, and key=/PATH, or a note in its place; empty lines, and those that begin with
// #, are passed over. Either all entries have a key, each its own, or none has: then shared,
// the key of tls_psk_file, is that of the one identity that may be enabled. The file must be
// root's, or this process's, and writable by nobody else. Of a disabled entry the key file
// may be gone.
func LoadAllowed(path string, shared []byte) (*Allowed, error) {
	f, err := openOwn(path, func(mode os.FileMode) error {
		if mode&0o022 != 0 {
			return fmt.Errorf("its mode is %#o, so others may write to it: chmod go-w", mode&0o7777)
		}
		return nil
	})
	if err != nil {
		return nil, &FileError{Path: path, Err: err}
	}
	defer f.Close()
	a, err := parseAllowed(path, f, shared, ReadKey)
	if err != nil {
		return nil, err
	}
	return a, nil
}

// parseAllowed reads what is in the file. readKey reads the file of a key.
func parseAllowed(path string, r io.Reader, shared []byte, readKey func(string) ([]byte, error)) (_ *Allowed, err error) {
	a := &Allowed{clients: map[string]*client{}, paths: map[string]*client{}, shared: shared}
	defer func() {
		if err != nil {
			a.wipe()
		}
	}()
	lines := bufio.NewReaderSize(r, maxAllowedLine+2)
	for number := 1; ; number++ {
		text, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, &FileError{path, number, fmt.Errorf("the line is longer than %d characters", maxAllowedLine)}
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, &FileError{path, number, err}
		}
		if bad := a.add(number, strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), readKey); bad != nil {
			return nil, &FileError{path, number, bad}
		}
		if err != nil {
			break
		}
	}
	if err := a.check(); err != nil {
		return nil, &FileError{path, 0, err}
	}
	return a, nil
}

// add reads one line.
func (a *Allowed) add(number int, text string, readKey func(string) ([]byte, error)) error {
	if strings.HasPrefix(text, "#") {
		return nil
	}
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\t' })
	if len(words) == 0 {
		return nil
	}
	identity := words[0]
	if err := CheckIdentity(identity); err != nil {
		return err
	}
	if len(words) < 2 {
		return fmt.Errorf("after the identity %s stands neither enabled nor disabled", identity)
	}
	c := &client{line: number}
	switch {
	case strings.EqualFold(words[1], "enabled"):
		c.enabled = true
	case !strings.EqualFold(words[1], "disabled"):
		return fmt.Errorf("after the identity %s stands %s: enabled or disabled is expected there", identity, shown(words[1]))
	}
	if before := a.clients[identity]; before != nil {
		return fmt.Errorf("the identity %s stands in line %d already: remove one of the two", identity, before.line)
	}
	if len(words) > 2 && strings.HasPrefix(words[2], "key=") {
		if err := a.addKey(c, words[2:], readKey); err != nil {
			return err
		}
	}
	a.clients[identity] = c
	if c.enabled {
		a.enabled++
	}
	return nil
}

func (a *Allowed) addKey(c *client, words []string, readKey func(string) ([]byte, error)) error {
	c.path = strings.TrimPrefix(words[0], "key=")
	if !strings.HasPrefix(c.path, "/") {
		return fmt.Errorf("key=%s is no absolute path: write key=/PATH", shown(c.path))
	}
	if len(words) > 1 {
		return fmt.Errorf("after %s stands %s: nothing may follow a key; put notes into lines that begin with #", words[0], shown(words[1]))
	}
	if other := a.paths[c.path]; other != nil {
		return fmt.Errorf("the key file %s is that of line %d already: each identity needs its own, or one could pass for the other", c.path, other.line)
	}
	a.keyed, a.paths[c.path] = true, c
	key, err := readKey(c.path)
	if err != nil {
		if !c.enabled && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	c.key = key
	return nil
}

// check looks at the file as a whole.
func (a *Allowed) check() error {
	if !a.keyed {
		switch {
		case a.shared == nil:
			return errors.New("its entries have no key=, and there is no tls_psk_file: add key=/PATH to each entry, or set tls_psk_file for the one that is enabled")
		case a.enabled > 1:
			return fmt.Errorf("%d identities are enabled and share the key of tls_psk_file, so each could pass for any other: give each its own by key=/PATH, or enable one", a.enabled)
		}
		return nil
	}
	keys := map[[sha256.Size]byte]string{}
	for _, identity := range slices.SortedFunc(maps.Keys(a.clients), func(x, y string) int { return a.clients[x].line - a.clients[y].line }) {
		c := a.clients[identity]
		if c.path == "" {
			return fmt.Errorf("%s in line %d has no key=, and others have: either all entries have one, or none", identity, c.line)
		}
		if c.key == nil {
			continue
		}
		sum := sha256.Sum256(c.key)
		if other, ok := keys[sum]; ok {
			return fmt.Errorf("%s in line %d has the same key as %s in line %d, so one could pass for the other: make a new one for each", identity, c.line, other, a.clients[other].line)
		}
		keys[sum] = identity
	}
	return nil
}

func (a *Allowed) wipe() {
	for _, c := range a.clients {
		clear(c.key)
	}
}

// Lookup is a Config's Lookup.
func (a *Allowed) Lookup(identity string) ([]byte, error) {
	c := a.clients[identity]
	switch {
	case c == nil:
		return nil, ErrUnknownIdentity
	case !c.enabled:
		return nil, ErrDisabledIdentity
	case !a.keyed:
		return a.shared, nil
	}
	return c.key, nil
}

// Enabled says whether the identity may connect, and stay connected.
func (a *Allowed) Enabled(identity string) bool {
	c := a.clients[identity]
	return c != nil && c.enabled
}

// Count is how many identities are enabled. With none, nobody can connect, which is worth a
// warning.
func (a *Allowed) Count() int { return a.enabled }
