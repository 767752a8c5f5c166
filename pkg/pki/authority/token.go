package authority

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/pki"
)

// tokenMark begins every token, so that people and scanners for secrets know one.
const tokenMark = "auditfleet1_"

// ErrToken is returned for a token that is not taken. What a stranger is told says no more;
// who showed the right secret is told why, with TokenError.
var ErrToken = errors.New("the token is not valid")

// TokenError says why a token is not taken.
type TokenError struct {
	ID     string // the token's, as tokens are listed
	Reason string // a word: malformed, unknown, other-ca, used, revoked or expired
	Why    string
}

// Error says which token, and why it is not taken.
func (e *TokenError) Error() string {
	if e.ID == "" {
		return "the token is not valid: " + e.Why
	}
	return "the token " + e.ID + " is not valid: " + e.Why
}

// Unwrap returns ErrToken.
func (e *TokenError) Unwrap() error { return ErrToken }

// Token is what a host shows once to get its certificate. It holds a secret.
type Token struct {
	Host string
	CA   string // the fingerprint of the CA, by which the host knows its server

	id     [6]byte
	secret [20]byte
}

// newToken draws a token for a host.
func newToken(host, ca string) Token {
	t := Token{Host: host, CA: ca}
	rand.Read(t.id[:])
	rand.Read(t.secret[:])
	return t
}

// ID names the token in lists and logs; it is no secret.
func (t Token) ID() string { return hex.EncodeToString(t.id[:]) }

// hash is what is kept of the secret. The secret is random and long, so that a plain hash
// tells nothing of it.
func (t Token) hash() string {
	sum := sha256.Sum256(append([]byte(tokenMark), t.secret[:]...))
	return hex.EncodeToString(sum[:])
}

// matches compares with a hash that was kept, in a time that does not depend on either.
func (t Token) matches(hash string) bool {
	return subtle.ConstantTimeCompare([]byte(t.hash()), []byte(hash)) == 1
}

// Reveal returns the token as it is handed out: with its secret.
func (t Token) Reveal() string {
	ca, _ := hex.DecodeString(t.CA)
	b := append(t.id[:len(t.id):len(t.id)], t.secret[:]...)
	b = append(append(b, ca...), t.Host...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return tokenMark + base64.RawURLEncoding.EncodeToString(b)
}

// String keeps the secret out of logs.
func (t Token) String() string { return "token " + t.ID() + " of " + t.Host }

// GoString is String.
func (t Token) GoString() string { return t.String() }

// ParseToken reads a token, also one that a mail or a terminal has broken across lines. Its errors quote nothing of it.
func ParseToken(text string) (Token, error) {
	var t Token
	wrong := func(why string) (Token, error) { return Token{}, &TokenError{Reason: "malformed", Why: why} }
	text = strings.Join(strings.Fields(text), "")
	const fixed = 6 + 20 + 32
	code, ok := strings.CutPrefix(text, tokenMark)
	switch {
	case text == "":
		return wrong("it is empty")
	case !ok:
		return wrong("a token begins with " + tokenMark)
	case len(text) > 1024:
		return wrong("it is too long")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(code)
	if err != nil || len(b) <= fixed+4 {
		return wrong("it is cut off, or something was added")
	}
	body, sum := b[:len(b)-4], b[len(b)-4:]
	if binary.BigEndian.Uint32(sum) != crc32.Checksum(body, castagnoli) {
		return wrong("it is cut off or mistyped: copy it whole")
	}
	copy(t.id[:], body)
	copy(t.secret[:], body[6:])
	t.CA = hex.EncodeToString(body[26:fixed])
	host := string(body[fixed:])
	if t.Host, err = pki.CheckName(host); err != nil || t.Host != host {
		return wrong("the host in it is none")
	}
	return t, nil
}
