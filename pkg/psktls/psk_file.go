package psktls

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// CheckIdentity says what is wrong with an identity: it has 1 to 255 bytes, each of them
// printable ASCII and no space, as audit 4.2 takes them.
func CheckIdentity(identity string) error {
	if identity == "" {
		return fmt.Errorf("the identity is empty: it needs 1 to %d printable characters without spaces", maxIdentity)
	}
	if len(identity) > maxIdentity {
		return fmt.Errorf("the identity is %d bytes long; %d are allowed", len(identity), maxIdentity)
	}
	for i := range len(identity) {
		if b := identity[i]; b < 0x21 || b > 0x7e {
			return fmt.Errorf("byte %d of the identity %q is 0x%02x: only printable ASCII without spaces is allowed", i+1, identity, b)
		}
	}
	return nil
}

func checkKey(key []byte) error {
	if len(key) < MinKey || len(key) > MaxKey {
		return fmt.Errorf("the key is %d bytes long; it must have %d to %d", len(key), MinKey, MaxKey)
	}
	return nil
}

// A FileError is about a file that the configuration names. Line is 0 where it is about the
// file as a whole.
type FileError struct {
	Path string
	Line int
	Err  error
}

func (e *FileError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s:%d: %v", e.Path, e.Line, e.Err)
	}
	return fmt.Sprintf("%s: %v", e.Path, e.Err)
}

// Unwrap returns what is wrong with the file.
func (e *FileError) Unwrap() error { return e.Err }

const makeKey = "make one with: (umask 0377; openssl rand -hex 32 > FILE)"

// ReadKey reads a file of tls_psk_file, or of key= in a file of tls_allowed_clients: its
// first line is the key in hexadecimal, colons between bytes allowed. Nobody but root, or
// the user that this process runs as, may have a hand on it: it must be a file of that
// owner with mode 0400, and no link. No error shows anything of the key.
func ReadKey(path string) ([]byte, error) {
	key, err := readKey(path)
	if err != nil {
		return nil, &FileError{Path: path, Err: err}
	}
	return key, nil
}

func readKey(path string) ([]byte, error) {
	f, err := openOwn(path, func(mode os.FileMode) error {
		if bits := mode & 0o7777; bits != 0o400 {
			return fmt.Errorf("its mode is %#o, not 0400: others may have read the key; make a new one if they may, then chmod 0400", bits)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// The longest key, with a colon after each byte, and one byte to see that there is more.
	buf := make([]byte, 3*MaxKey+2)
	defer clear(buf)
	n, err := io.ReadFull(f, buf)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	if n == 0 {
		return nil, errors.New("the file is empty: " + makeKey)
	}
	return parseKey(buf[:n])
}

// parseKey reads the first line of text.
func parseKey(text []byte) ([]byte, error) {
	line, _, _ := bytes.Cut(text, []byte{'\n'})
	line = bytes.TrimRight(line, "\r")
	digits := make([]byte, 0, len(line))
	defer func() { clear(digits) }()
	for i, b := range line {
		if b == ':' && len(digits)%2 == 0 && len(digits) > 0 {
			continue
		}
		if !isHex(b) {
			return nil, fmt.Errorf("character %d of the first line is no hexadecimal digit: the line is to be the key and nothing else; %s", i+1, makeKey)
		}
		digits = append(digits, b)
	}
	switch {
	case len(digits) > 2*MaxKey:
		return nil, fmt.Errorf("the key has more than %d bytes; %s", MaxKey, makeKey)
	case len(digits)%2 != 0:
		return nil, fmt.Errorf("the key has an odd number of hexadecimal digits, %d: is one missing? %s", len(digits), makeKey)
	case len(digits) < 2*MinKey:
		return nil, fmt.Errorf("the key has %d bytes; at least %d are needed: %s", len(digits)/2, MinKey, makeKey)
	}
	key := make([]byte, len(digits)/2)
	if _, err := hex.Decode(key, digits); err != nil {
		return nil, errors.New("the key is not hexadecimal")
	}
	return key, nil
}

// shown is a word of a file for a message. One that may be a key, put where its file was to be
// named, is not shown.
func shown(word string) string {
	digits, of := 0, 0
	for i := range len(word) {
		if isHex(word[i]) {
			digits++
		}
		if word[i] != ':' {
			of++
		}
	}
	if digits >= MinKey && digits*4 >= of*3 && word[0] != '/' {
		return fmt.Sprintf("(%d characters that may be a key)", len(word))
	}
	return fmt.Sprintf("%.200q", word)
}

func isHex(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F'
}

// openOwn opens a regular file, no link, that is root's or this process's, and whose mode
// mode takes. It looks at the file that it has opened, so nobody can put another in between,
// and does not wait for the other end of a FIFO.
func openOwn(path string, mode func(os.FileMode) error) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		var why *os.PathError
		if errors.As(err, &why) {
			err = why.Err
		}
		if errors.Is(err, syscall.ELOOP) {
			return nil, fmt.Errorf("it is a symbolic link: name the file itself")
		}
		return nil, err
	}
	if err := checkOwn(f, mode); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func checkOwn(f *os.File, mode func(os.FileMode) error) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("its owner can't be told")
	}
	if own := os.Geteuid(); stat.Uid != 0 && int64(stat.Uid) != int64(own) {
		return fmt.Errorf("its owner is uid %d, who could change it: chown it to root", stat.Uid)
	}
	return mode(os.FileMode(stat.Mode & 0o7777))
}
