package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	maxDenied  = 1 << 20 // lines of a deny list, and entries of the revocation lists
	maxPattern = 1024    // lines with * or ?: each is compared with each name
)

// denyList is a parsed deny list: a word a line, which is a name, a pattern of names, a
// serial or a SHA-256 fingerprint. A word that could be several of these is all of them: a
// list must not fail to deny because a host's name looks like a number.
type denyList struct {
	words    map[string]bool // as written, in lower case, and as hexadecimal numbers
	patterns []string
}

// parseDenyList reads a deny list. What follows a # is a remark. path is for messages.
func parseDenyList(path string, data []byte) (*denyList, error) {
	d := &denyList{words: map[string]bool{}}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		text, _, _ := strings.Cut(string(line), "#")
		word := strings.ToLower(strings.TrimSpace(text))
		switch {
		case word == "":
			continue
		case strings.ContainsAny(word, " \t\r\v\f\x00"):
			return nil, fmt.Errorf("%s:%d: %.80q has more than one word: a line is a name, a serial or a SHA-256 fingerprint, and a remark after #", path, number, word)
		case len(word) > MaxName:
			return nil, fmt.Errorf("%s:%d: a word of %d bytes: a line is a name, a serial or a SHA-256 fingerprint", path, number, len(word))
		case len(d.words) >= maxDenied:
			return nil, fmt.Errorf("%s:%d: more than %d lines: take out what has expired", path, number, maxDenied)
		}
		if strings.ContainsAny(word, "*?") {
			if d.patterns = append(d.patterns, word); len(d.patterns) > maxPattern {
				return nil, fmt.Errorf("%s:%d: more than %d lines with * or ?", path, number, maxPattern)
			}
			continue
		}
		d.words[strings.TrimSuffix(word, ".")] = true
		if digits, ok := hexNumber(word); ok {
			d.words[digits] = true
		}
	}
	return d, nil
}

// hexNumber returns a number's hexadecimal digits without colons (as openssl prints them)
// and without zeros in front but for an even number of digits, as Serial writes them.
func hexNumber(word string) (string, bool) {
	word = strings.ReplaceAll(strings.TrimPrefix(word, "0x"), ":", "")
	if word == "" || strings.Trim(word, "0123456789abcdef") != "" {
		return "", false
	}
	if len(word) == 64 {
		return word, true // a fingerprint keeps its zeros
	}
	word = strings.TrimLeft(word, "0")
	if len(word)%2 == 1 || word == "" {
		word = "0" + word
	}
	return word, true
}

// find returns which word of the list denies a peer's name or one certificate of its chain. All
// names of its own certificate count, not only the one that it goes by: who denies a host knows
// one of them.
func (d *denyList) find(name string, chain []*x509.Certificate) (word string, denied bool) {
	if d == nil || len(d.words)+len(d.patterns) == 0 {
		return "", false
	}
	if word, denied := d.named(name); denied {
		return word, true
	}
	if len(chain) > 0 {
		for _, other := range chain[0].DNSNames {
			if word, denied := d.named(other); denied {
				return word, true
			}
		}
		for _, u := range chain[0].URIs {
			if word, denied := d.named(u.String()); denied {
				return word, true
			}
		}
	}
	for _, c := range chain {
		if serial := Serial(c.SerialNumber); d.words[serial] {
			return serial, true
		}
		if print := Fingerprint(c); d.words[print] {
			return print, true
		}
	}
	return "", false
}

// named returns which word of the list denies a name.
func (d *denyList) named(name string) (word string, denied bool) {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if d.words[name] {
		return name, true
	}
	for _, p := range d.patterns {
		if matches(p, name) {
			return p, true
		}
	}
	return "", false
}

// revocations are the entries of certificate revocation lists (CRLs).
type revocations struct {
	when     map[revocation]time.Time
	outdated []string // what to say of lists whose next one is overdue
}

// revocation names a certificate as a CRL does.
type revocation struct{ issuer, serial string }

// parseCRLs reads revocation lists, several in PEM or one in DER, each of which one of our
// CAs must have signed. Lists that are overdue count on: their entries stay revoked.
func parseCRLs(path string, data []byte, cas []*x509.Certificate, now time.Time) (*revocations, error) {
	r := &revocations{when: map[revocation]time.Time{}}
	lists, err := splitCRLs(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, der := range lists {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, fmt.Errorf("%s: it is no certificate revocation list: %w", path, err)
		}
		if !signedByOne(list, cas) {
			return nil, fmt.Errorf("%s: the revocation list of %q is not signed by a CA that is trusted here (%s)", path, clip(list.Issuer.String()), caNames(cas))
		}
		if !list.NextUpdate.IsZero() && now.After(list.NextUpdate) {
			r.outdated = append(r.outdated, fmt.Sprintf("%s: the revocation list of %q should have been replaced by %s; what it revokes stays revoked", path, clip(list.Issuer.String()), stamp(list.NextUpdate)))
		}
		for _, e := range list.RevokedCertificateEntries {
			if len(r.when) >= maxDenied {
				return nil, fmt.Errorf("%s: more than %d certificates are revoked", path, maxDenied)
			}
			r.when[revocation{string(list.RawIssuer), Serial(e.SerialNumber)}] = e.RevocationTime
		}
	}
	return r, nil
}

// splitCRLs returns each list of a file.
func splitCRLs(data []byte) ([][]byte, error) {
	if !bytes.Contains(data, []byte("-----BEGIN")) {
		return [][]byte{data}, nil
	}
	var lists [][]byte
	for block, rest := pem.Decode(data); ; block, rest = pem.Decode(rest) {
		if block == nil {
			if len(lists) == 0 || bytes.Contains(rest, []byte("-----BEGIN")) {
				return nil, errors.New("the PEM in it is cut off or damaged")
			}
			return lists, nil
		}
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("it holds %q, where a revocation list (X509 CRL) was expected", clip(block.Type))
		}
		lists = append(lists, block.Bytes)
	}
}

func signedByOne(list *x509.RevocationList, cas []*x509.Certificate) bool {
	for _, ca := range cas {
		if bytes.Equal(ca.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(ca) == nil {
			return true
		}
	}
	return false
}

// find returns the certificate of a chain that is revoked, and since when.
func (r *revocations) find(chain []*x509.Certificate) (*x509.Certificate, time.Time) {
	if r == nil || len(r.when) == 0 {
		return nil, time.Time{}
	}
	for _, c := range chain {
		if when, ok := r.when[revocation{string(c.RawIssuer), Serial(c.SerialNumber)}]; ok {
			return c, when
		}
	}
	return nil, time.Time{}
}
