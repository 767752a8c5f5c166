package authority

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/pki"
)

const (
	tokensKind = "auditfleet-ca-tokens"
	// MaxTokenLife is the longest that a token may wait.
	MaxTokenLife = 30 * 24 * time.Hour
	// keepTokens is how long a token stays listed that can no longer be used.
	keepTokens = 90 * 24 * time.Hour
)

// TokenEntry is a token as it is kept: without its secret.
type TokenEntry struct {
	ID      string
	Host    string
	Roles   pki.Roles
	Created time.Time
	Expires time.Time
	Used    time.Time // zero: it was not
	Serial  string    // of the certificate that it was used for
	Revoked time.Time // zero: it is not

	hash string
	life time.Duration // of the certificate
}

// State says what a token is at a time: valid, used, revoked or expired.
func (e TokenEntry) State(now time.Time) string {
	switch {
	case !e.Used.IsZero():
		return "used"
	case !e.Revoked.IsZero():
		return "revoked"
	case now.After(e.Expires):
		return "expired"
	}
	return "valid"
}

func formatTokens(ca string, list []TokenEntry) []byte {
	rows := make([][]string, len(list))
	for i, e := range list {
		serial := e.Serial
		if serial == "" {
			serial = "-"
		}
		rows[i] = []string{e.ID, e.hash, e.Host, e.Roles.String(), e.life.String(), stamp(e.Created), stamp(e.Expires), stampOr(e.Used), serial, stampOr(e.Revoked)}
	}
	return formatTable(tokensKind, ca, rows)
}

func parseTokens(path, ca string, data []byte) ([]TokenEntry, error) {
	rows, err := parseTable(path, tokensKind, ca, 10, data)
	if err != nil {
		return nil, err
	}
	list := make([]TokenEntry, len(rows))
	for i, r := range rows {
		e := TokenEntry{ID: r[0], hash: r[1], Host: r[2]}
		var errs [2]error
		e.Roles, errs[0] = pki.ParseRoles(r[3])
		e.life, errs[1] = time.ParseDuration(r[4])
		err := errors.Join(errs[:]...)
		for n, at := range []*time.Time{&e.Created, &e.Expires, &e.Used, nil, &e.Revoked} {
			if text := r[5+n]; at != nil && (n < 2 || text != "-") {
				var wrong error
				*at, wrong = time.Parse(time.RFC3339, text)
				err = errors.Join(err, wrong)
			}
		}
		if err != nil {
			return nil, &FileError{Path: path, Line: i + 2, Why: "a field cannot be read", Err: ErrDamaged}
		}
		if r[8] != "-" {
			e.Serial = r[8]
		}
		list[i] = e
	}
	return list, nil
}

// Tokens returns the tokens that were given, in the order in which that was.
func (ca *CA) Tokens() ([]TokenEntry, error) {
	data, err := readFile(ca.cfg.FS, ca.cfg.path(TokensFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseTokens(ca.cfg.path(TokensFile), ca.id, data)
}

// knownTokens is Tokens for a look that decides nothing yet: the file is read when it is another
// one than at the last look. Who calls changes nothing of the list.
func (ca *CA) knownTokens() ([]TokenEntry, error) {
	info, err := ca.cfg.FS.Stat(ca.cfg.path(TokensFile)) // before it is read: a change meanwhile is seen the next time
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if s := ca.seen; s != nil && os.SameFile(s, info) && s.ModTime().Equal(info.ModTime()) && s.Size() == info.Size() {
		return ca.known, nil
	}
	list, err := ca.Tokens()
	if err == nil {
		ca.known, ca.seen = list, info
	}
	return list, err
}

func (ca *CA) writeTokens(list []TokenEntry) error {
	return fsys.ReplaceOn(ca.cfg.FS, ca.cfg.path(TokensFile), formatTokens(ca.id, list), 0o600)
}

// NewToken gives a token for the certificate that r asks for, which may be used for ttl.
// r.DNS and r.IP must be empty: a token's certificate is for a host that sends.
func (ca *CA) NewToken(ctx context.Context, r Request, ttl time.Duration) (Token, error) {
	r, err := r.clean()
	if err != nil {
		return Token{}, err
	}
	if ttl < time.Minute || ttl > MaxTokenLife {
		return Token{}, fmt.Errorf("a token may wait a minute at least and %d days at most, not %s", MaxTokenLife/(24*time.Hour), ttl)
	}
	if _, err := ca.signer(); err != nil { // say now, not when the host comes
		return Token{}, err
	}
	unlock, err := lock(ctx, ca.cfg)
	if err != nil {
		return Token{}, err
	}
	defer unlock()
	list, err := ca.Tokens()
	if err != nil {
		return Token{}, err
	}
	now := ca.cfg.Now().Truncate(time.Second)
	kept := list[:0]
	for _, e := range list {
		if now.Sub(e.Expires) < keepTokens {
			kept = append(kept, e)
		}
	}
	t := newToken(r.Name, ca.id)
	kept = append(kept, TokenEntry{ID: t.ID(), Host: r.Name, Roles: r.Roles, Created: now, Expires: now.Add(ttl), hash: t.hash(), life: r.Life})
	if err := ca.writeTokens(kept); err != nil {
		return Token{}, err
	}
	return t, nil
}

// RevokeToken makes tokens useless: one by its ID, or all of a host that could be used.
func (ca *CA) RevokeToken(ctx context.Context, who string) (revoked []TokenEntry, err error) {
	unlock, err := lock(ctx, ca.cfg)
	if err != nil {
		return nil, err
	}
	defer unlock()
	list, err := ca.Tokens()
	if err != nil {
		return nil, err
	}
	now := ca.cfg.Now().Truncate(time.Second)
	known := false
	for i := range list {
		e := &list[i]
		if e.ID != strings.ToLower(who) && e.Host != strings.ToLower(who) {
			continue
		}
		if known = true; e.State(now) == "valid" {
			e.Revoked = now
			revoked = append(revoked, *e)
		}
	}
	if !known {
		return nil, fmt.Errorf("%.100q %w: collector token --list --dir %s has the tokens", who, ErrUnknown, ca.cfg.Dir)
	}
	if len(revoked) == 0 {
		return nil, nil
	}
	return revoked, ca.writeTokens(list)
}

// Redeem takes a token and a certificate request (PKCS #10, DER) and returns the
// certificate. The token counts as used, on stable storage, before the certificate is
// signed: whatever dies then, no token is taken twice. A request decides about the key
// only; name, roles and life are the token's.
func (ca *CA) Redeem(ctx context.Context, text string, request []byte) (*x509.Certificate, error) {
	t, err := ParseToken(text)
	if err != nil {
		return nil, err
	}
	// Strangers are sent away before anything that costs much, or waits.
	list, err := ca.knownTokens()
	if err == nil {
		_, err = ca.takes(t, list)
	}
	if err != nil {
		return nil, err
	}
	public, err := checkRequest(request, t.Host)
	if err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, ca.cfg)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if list, err = ca.Tokens(); err != nil {
		return nil, err
	}
	e, err := ca.takes(t, list)
	if err != nil {
		return nil, err
	}
	if _, err := ca.signer(); err != nil { // before the token is used up
		return nil, err
	}
	if _, err := ca.index(); err != nil {
		return nil, err
	}
	r := Request{Name: e.Host, Roles: e.Roles, Life: e.life}
	template := ca.template(r)
	e.Used, e.Serial = ca.cfg.Now().Truncate(time.Second), pki.Serial(template.SerialNumber)
	if err := ca.writeTokens(list); err != nil {
		return nil, err
	}
	return ca.sign(r, public, template)
}

// takes finds a token in the list, and says why it is not taken.
func (ca *CA) takes(t Token, list []TokenEntry) (*TokenEntry, error) {
	if t.CA != ca.id {
		return nil, &TokenError{ID: t.ID(), Reason: "other-ca", Why: "it is another CA's"}
	}
	var e *TokenEntry
	for i := range list {
		if list[i].ID == t.ID() {
			e = &list[i]
		}
	}
	if e == nil || !t.matches(e.hash) || e.Host != t.Host {
		return nil, &TokenError{ID: t.ID(), Reason: "unknown", Why: "it is not known here"}
	}
	switch now := ca.cfg.Now(); e.State(now) {
	case "used":
		return nil, &TokenError{ID: t.ID(), Reason: "used", Why: fmt.Sprintf("it was used at %s, for the certificate %s; if that was not this host, revoke what it got: collector ca revoke %s", stamp(e.Used), e.Serial, e.Host)}
	case "revoked":
		return nil, &TokenError{ID: t.ID(), Reason: "revoked", Why: "it was revoked at " + stamp(e.Revoked)}
	case "expired":
		return nil, &TokenError{ID: t.ID(), Reason: "expired", Why: fmt.Sprintf("it expired at %s, and it is %s by the server's clock: have a new one made", stamp(e.Expires), stamp(now))}
	}
	return e, nil
}

// maxRequest is the largest certificate request.
const maxRequest = 16 << 10

// ErrRequest is returned for a certificate request that is not taken.
var ErrRequest = errors.New("the certificate request is not taken")

// checkRequest returns the key that a certificate is asked for.
func checkRequest(der []byte, host string) (crypto.PublicKey, error) {
	if len(der) > maxRequest {
		return nil, fmt.Errorf("%w: it has %d bytes, and %d are the most", ErrRequest, len(der), maxRequest)
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("%w: it cannot be read: %w", ErrRequest, err)
	}
	if !strong(r.PublicKey) { // before a signature is checked with it
		return nil, fmt.Errorf("%w: its key is of a kind that is not: ECDSA on P-256 or P-384, Ed25519, and RSA of 2048 to 4096 bits are", ErrRequest)
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: it is not signed with its key: %w", ErrRequest, err)
	}
	for _, dns := range r.DNSNames {
		if name, err := pki.CheckName(dns); err != nil || name != host {
			return nil, fmt.Errorf("%w: it is for %.80q, and only %q can be had", ErrRequest, dns, host)
		}
	}
	return r.PublicKey, nil
}

// strong reports whether a key is of a kind and size that certificates are issued for.
func strong(public crypto.PublicKey) bool {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		bits := key.Curve.Params().BitSize
		return bits == 256 || bits == 384
	case ed25519.PublicKey:
		return true
	case *rsa.PublicKey:
		bits := key.N.BitLen()
		return bits >= 2048 && bits <= 4096
	}
	return false
}
