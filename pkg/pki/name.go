package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// MaxName is the longest name in bytes: that of a DNS name, and no longer than the names of
// hosts that the collector tells apart.
const MaxName = 253

// CheckName returns the form in which a host's name is compared and stored: lower case,
// without a dot at its end. It must be a DNS name of letters, digits, "-" and "_"; an
// address, a wildcard and an empty name are refused.
func CheckName(name string) (string, error) {
	given := name
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	switch {
	case name == "":
		return "", errors.New("the name is empty")
	case len(name) > MaxName:
		return "", fmt.Errorf("the name %.40q… has %d bytes: %d are the most", given, len(name), MaxName)
	case strings.Contains(name, "*"):
		return "", fmt.Errorf("the name %q is a wildcard, which is no host's name", given)
	}
	numbers := true
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return "", fmt.Errorf("the name %q has an empty part between its dots", given)
		case len(label) > 63:
			return "", fmt.Errorf("the name %.40q… has a part of %d bytes: 63 are the most", given, len(label))
		case label[0] == '-', label[len(label)-1] == '-':
			return "", fmt.Errorf("the name %q has a part that begins or ends with -", given)
		}
		for i := range len(label) {
			c := label[i]
			if c < '0' || c > '9' {
				numbers = false
			}
			if c != '-' && c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
				return "", fmt.Errorf("the name %q has %q in it: letters, digits, - and _ are allowed, and dots between them", given, c)
			}
		}
	}
	if numbers && strings.Contains(name, ".") {
		return "", fmt.Errorf("the name %q is an address: certificates are for names", given)
	}
	return name, nil
}

// certificateName returns the name that a certificate proves. With a SPIFFE ID that is the
// ID: what follows prefix in it where it begins so, else the whole URI, so that no two IDs
// have one name. Without one it is the first DNS name. The common name counts for nothing.
func certificateName(c *x509.Certificate, prefix string) (string, error) {
	var spiffe *url.URL
	for _, u := range c.URIs {
		if !strings.EqualFold(u.Scheme, "spiffe") {
			continue
		}
		if spiffe != nil {
			return "", fmt.Errorf("it has two SPIFFE IDs, %.100q and %.100q, where one is allowed", spiffe, u)
		}
		spiffe = u
	}
	if spiffe != nil {
		return spiffeName(spiffe, prefix)
	}
	if len(c.DNSNames) == 0 {
		if c.Subject.CommonName != "" {
			return "", fmt.Errorf("it names no host: its subject alternative names have no DNS name and no SPIFFE ID (its common name, %.80q, does not count)", c.Subject.CommonName)
		}
		return "", errors.New("it names no host: its subject alternative names have no DNS name and no SPIFFE ID")
	}
	return CheckName(c.DNSNames[0])
}

// spiffeName checks an ID by the rules of SPIFFE and returns the name that it is.
func spiffeName(u *url.URL, prefix string) (string, error) {
	id := u.String()
	bad := func(why string) (string, error) { return "", fmt.Errorf("its SPIFFE ID %.100q %s", id, why) }
	switch {
	case len(id) > MaxName:
		return bad(fmt.Sprintf("has %d bytes: %d are the most", len(id), MaxName))
	case u.Host == "" || u.Path == "" || u.User != nil || u.Port() != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "":
		return bad("is not spiffe://DOMAIN/PATH")
	}
	for part := range strings.SplitSeq(u.Path[1:], "/") {
		if part == "" || part == "." || part == ".." {
			return bad("has an empty part in its path, or one that is dots only")
		}
	}
	for i := range len(id) {
		if c := id[i]; c < '!' || c > '~' || strings.IndexByte(`%"*<>\^{|}`+"`", c) >= 0 {
			return bad(fmt.Sprintf("has %q in it", c))
		}
	}
	// The domain is compared without regard to case, the path is not.
	id = "spiffe://" + strings.ToLower(u.Host) + u.Path
	if host, ok := strings.CutPrefix(id, prefix); ok && prefix != "" {
		name, err := CheckName(host)
		if err != nil {
			return bad(fmt.Sprintf("has no host name behind %s: %v", prefix, err))
		}
		return name, nil
	}
	return id, nil
}
