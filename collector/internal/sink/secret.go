package sink

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// most bounds a file with secrets or certificates.
const most = 1 << 20

// readSecret reads a file that nobody but its owner may read.
func readSecret(path string) ([]byte, error) {
	f, err := fsys.OpenRegular(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("read a secret: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = &fsys.UnsafeError{Path: path, Why: fmt.Sprintf("its mode is %04o: others may read the secret", info.Mode().Perm()), Fix: "chmod 0600 " + path + ", and replace the secret where others may have read it"}
	}
	var text []byte
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(f, most))
	}
	return text, errors.Join(err, f.Close())
}

// CheckFiles says which secrets and certificates of the sinks can't be used now. Deliveries read them anew each time, so
// that they can't is no reason not to start.
func (c *Config) CheckFiles() error {
	var errs []error
	for i := range c.Sinks {
		s := &c.Sinks[i]
		if s.wrong != nil {
			continue // Problem says so
		}
		keep := func(err error) {
			if err != nil {
				errs = append(errs, fmt.Errorf("the sink %s: %w", s.Name, err))
			}
		}
		_, err := s.tlsConfig("")
		keep(err)
		if s.SecretFile != "" {
			_, err := readSecrets(s.SecretFile)
			keep(err)
		}
		for _, path := range []string{s.PasswordFile, s.TokenFile} {
			if path != "" {
				_, err := readWord(path)
				keep(err)
			}
		}
	}
	return errors.Join(errs...)
}

// readWord reads a secret of one line: a password or token.
func readWord(path string) (string, error) {
	text, err := readSecret(path)
	if err != nil {
		return "", err
	}
	word := strings.TrimRight(string(text), "\r\n")
	if word == "" || strings.ContainsFunc(word, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", fmt.Errorf("%s: want one line with the secret, and nothing else", path)
	}
	return word, nil
}

// tlsConfig returns the TLS of a client of host, with the files as they are now.
func (s *Settings) tlsConfig(host string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if s.CA != "" {
		text, err := fsys.ReadTrusted(s.CA, most)
		if err != nil {
			return nil, fmt.Errorf("read ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: has no certificate in PEM", s.CA)
		}
	}
	if s.Cert != "" {
		cert, err := fsys.ReadTrusted(s.Cert, most)
		if err != nil {
			return nil, fmt.Errorf("read cert: %w", err)
		}
		key, err := readSecret(s.Key)
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", s.Cert, s.Key, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// said makes what another machine or a program has said fit for a log: one short line of
// printable text, without any of our secrets.
func said(text []byte, secrets ...string) string {
	for _, secret := range secrets {
		if secret != "" {
			text = bytes.ReplaceAll(text, []byte(secret), []byte("(secret)"))
		}
	}
	return plain(string(text), 200)
}

// plain returns text as one line of printable characters and at most n bytes.
func plain(text string, n int) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' }), " ")
	if len(text) > n {
		text = strings.ToValidUTF8(text[:n], "") + "…"
	}
	return text
}
