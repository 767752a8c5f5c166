package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// Roles is a set of what a peer may do.
type Roles uint8

// What a peer may do. None of them includes another.
const (
	Send  Roles = 1 << iota // deliver records under its own name
	Read                    // search, report, follow
	Admin                   // change the collector's hosts and stores
)

// roleNames has the roles' names in the order of their bits.
var roleNames = []string{"send", "read", "admin"}

// Has reports whether all roles of want are in r.
func (r Roles) Has(want Roles) bool { return r&want == want }

// String returns the roles as ParseRoles reads them, "none" for no role.
func (r Roles) String() string {
	var names []string
	for i, name := range roleNames {
		if r&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ",")
}

// ParseRoles reads roles with commas between them: send, read, admin.
func ParseRoles(text string) (Roles, error) {
	var r Roles
	for word := range strings.SplitSeq(text, ",") {
		found := false
		for i, name := range roleNames {
			if strings.TrimSpace(word) == name {
				r, found = r|1<<i, true
			}
		}
		if !found {
			return 0, fmt.Errorf("there is no role %.80q: send, read and admin are the roles, with commas between them", word)
		}
	}
	return r, nil
}

// roleMark begins an organizational unit (OU) of a certificate's subject that has roles:
// "auditfleet:role=read" or "auditfleet:role=send,read". Every CA can be told to write an OU.
const roleMark = "auditfleet:role="

// Units returns the organizational units that give a certificate the roles.
func (r Roles) Units() []string { return []string{roleMark + r.String()} }

// certificateRoles returns the roles that a certificate names, and whether it names any. An
// unknown role is an error: who misspells a role must not get the default ones.
func certificateRoles(c *x509.Certificate) (roles Roles, named bool, err error) {
	for _, unit := range c.Subject.OrganizationalUnit {
		text, ok := strings.CutPrefix(strings.ToLower(unit), roleMark)
		if !ok {
			continue
		}
		more, err := ParseRoles(text)
		if err != nil {
			return 0, false, fmt.Errorf("its subject has the unit %.80q: %w", unit, err)
		}
		roles, named = roles|more, true
	}
	return roles, named, nil
}

// Identity is who a verified certificate says the peer is.
type Identity struct {
	Name        string // a host's name in lower case, or a whole SPIFFE ID
	Roles       Roles
	Serial      string    // hexadecimal, lower case, an even number of digits
	Fingerprint string    // SHA-256 of the certificate, hexadecimal, lower case
	NotAfter    time.Time // when the certificate expires, or one of a CA above it, whichever comes first

	sent []*x509.Certificate // what the peer sent, its own certificate first
	seen uint64              // the state of the Trust that it was checked against
}

// String says who it is, for logs: name and serial.
func (id Identity) String() string { return id.Name + " (certificate " + id.Serial + ")" }

// Serial returns a certificate's serial as this package writes it.
func Serial(n *big.Int) string {
	text := n.Text(16)
	if len(text)%2 == 1 {
		text = "0" + text
	}
	return text
}

// Fingerprint returns the SHA-256 of a certificate as this package writes it.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}
