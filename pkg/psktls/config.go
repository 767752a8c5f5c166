package psktls

import (
	"crypto/rand"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Config says how to shake hands. It may be used by many connections at once, and must not
// be changed meanwhile.
type Config struct {
	// Identity and Key are the client's: the name it goes by, and the key the server has for
	// it, of at least MinKey bytes.
	Identity string
	Key      []byte

	// Lookup is the server's: it returns the key of an identity, or the reason why there is
	// none, such as ErrUnknownIdentity or ErrDisabledIdentity. The peer is told the same
	// for every reason as for a wrong key, at the same cost, and the reason is what
	// Handshake returns. Lookup may be called by many connections at once; the key is not
	// changed, and must not be while it is looked at. Whoever reads the keys again looks,
	// once a handshake is done, whether its identity may still connect (Allowed.Enabled).
	Lookup func(identity string) (key []byte, err error)

	// Suites are the cipher suites to offer or to take, in order of preference; empty for
	// DefaultSuites. A pre-shared key goes with one hash (RFC 8446, section 4.2.11):
	// SHA-256 where one of the suites has it, and then AES256GCM, whose hash is SHA-384, is
	// not used. Where AES256GCM stands alone the hash is SHA-384, and the other end must
	// have been told so, too. Audit 4.2 does the same.
	Suites []Suite

	// Groups are the groups to offer or to take, in order of preference; empty for
	// CompatibleGroups. A server follows its own order, but spares a client another hello
	// unless that wins what RequirePQC is about.
	Groups []Group

	// RequirePQC refuses every group without ML-KEM, whatever Groups has.
	RequirePQC bool

	random io.Reader // for known answers, in tests; nil for the system's
}

// Lengths of keys, in bytes, that audit 4.2 takes.
const (
	MinKey = 32
	MaxKey = 255
)

// Why a peer was refused. These stand behind the LocalAlert that Handshake returns.
var (
	// ErrUnknownIdentity is for an identity that nobody allowed.
	ErrUnknownIdentity = errors.New("the identity is not known")
	// ErrDisabledIdentity is for an identity that was allowed once, and is not any more.
	ErrDisabledIdentity = errors.New("the identity is disabled")
	// ErrWrongKey is for a peer that does not have the key of its identity.
	ErrWrongKey = errors.New("its key is not the one that is known here for this identity")
	// ErrNoKeyOffered is for a client that offers no pre-shared key at all.
	ErrNoKeyOffered = errors.New("the client offers no pre-shared key")
	// ErrNotPQC is for a peer that has no group with ML-KEM, which tls_crypto_profile = pqc
	// asks for.
	ErrNotPQC = errors.New("the other end has no post-quantum group, which tls_crypto_profile = pqc asks for")
	// ErrNotTLS is for a peer whose first bytes are not TLS. It gets no alert.
	ErrNotTLS = errors.New("not TLS")
)

// DefaultSuites are those of audit 4.2's profiles compatible and pqc.
func DefaultSuites() []Suite { return []Suite{AES128GCM, ChaCha20Poly1305, AES256GCM} }

// CompatibleGroups are those of audit 4.2's profile compatible.
func CompatibleGroups() []Group { return []Group{X25519MLKEM768, X25519} }

// PQCGroups are those of audit 4.2's profile pqc.
func PQCGroups() []Group { return []Group{X25519MLKEM768, SecP256r1MLKEM768, SecP384r1MLKEM1024} }

// choices is what a handshake goes by: a Config without what can't be used.
type choices struct {
	suites []Suite
	groups []Group
	hash   func() hash.Hash // of the pre-shared key
	random io.Reader
}

func (c *Config) choices() (*choices, error) {
	out := &choices{random: c.random}
	if out.random == nil {
		out.random = rand.Reader
	}
	listed := c.Suites
	if len(listed) == 0 {
		listed = DefaultSuites()
	}
	best := 0
	for _, suite := range listed {
		a := suite.algorithms()
		if a == nil {
			return nil, fmt.Errorf("tls: this program does not have the cipher suite %v", suite)
		}
		if size := a.hash().Size(); best == 0 || size < best {
			best, out.hash = size, a.hash
		}
	}
	for _, suite := range listed {
		if suite.algorithms().hash().Size() == best {
			out.suites = append(out.suites, suite)
		}
	}
	groups := c.Groups
	if len(groups) == 0 {
		groups = CompatibleGroups()
	}
	for _, group := range groups {
		if group.exchange() == nil {
			return nil, fmt.Errorf("tls: this program does not have the group %v", group)
		}
		if !c.RequirePQC || group.PostQuantum() {
			out.groups = append(out.groups, group)
		}
	}
	if len(out.groups) == 0 {
		return nil, errors.New("tls: none of the groups of tls_key_exchange is post-quantum, which tls_crypto_profile = pqc asks for: add X25519MLKEM768, or leave tls_key_exchange out")
	}
	return out, nil
}
