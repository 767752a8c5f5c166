package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// snapshot is what a Trust knows at one time. It is never changed.
type snapshot struct {
	number  uint64
	pair    *pair
	cas     []*x509.Certificate
	pool    *x509.CertPool
	deny    *denyList
	revoked *revocations
	rules   Rules
}

// chains verifies what a peer sent up to our CAs.
func (s *snapshot) chains(sent []*x509.Certificate, use x509.ExtKeyUsage, now time.Time) ([][]*x509.Certificate, error) {
	opts := x509.VerifyOptions{Roots: s.pool, CurrentTime: now, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{use}}
	for _, c := range sent[1:] {
		opts.Intermediates.AddCert(c)
	}
	chains, err := sent[0].Verify(opts)
	if err != nil {
		return nil, s.invalid(sent[0], err, now)
	}
	return chains, nil
}

// standing returns the error of a peer whose certificate is denied or revoked. Of several
// ways to our CAs, one that is clean is enough.
func (s *snapshot) standing(name string, chains [][]*x509.Certificate) error {
	var bad error
	for _, chain := range chains {
		leaf := chain[0]
		if word, denied := s.deny.find(name, chain); denied {
			bad = refuse(Revoked, nil, "the certificate of %s (serial %s) is revoked: the deny list has %q", clip(name), Serial(leaf.SerialNumber), word)
			continue
		}
		if c, when := s.revoked.find(chain); c != nil {
			bad = refuse(Revoked, nil, "the certificate of %s (serial %s) is revoked: its CA %q revoked serial %s at %s", clip(name), Serial(leaf.SerialNumber), clip(c.Issuer.String()), Serial(c.SerialNumber), stamp(when))
			continue
		}
		return nil
	}
	return bad
}

// identify returns who a client is, after all that can be checked.
func (s *snapshot) identify(sent []*x509.Certificate, now time.Time) (Identity, error) {
	if len(sent) == 0 {
		return Identity{}, s.noCertificate(nil)
	}
	chains, err := s.chains(sent, x509.ExtKeyUsageClientAuth, now)
	if err != nil {
		return Identity{}, err
	}
	return s.verified(sent, chains)
}

// verified returns who a client is whose signatures have been checked.
func (s *snapshot) verified(sent []*x509.Certificate, chains [][]*x509.Certificate) (Identity, error) {
	leaf := sent[0]
	name, err := certificateName(leaf, s.rules.SPIFFEPrefix)
	if err != nil {
		return Identity{}, refuse(NoName, nil, "the certificate with serial %s of CA %q proves no name: %v", Serial(leaf.SerialNumber), clip(leaf.Issuer.String()), err)
	}
	if err := s.standing(name, chains); err != nil {
		return Identity{}, err
	}
	roles, err := s.roles(name, leaf)
	if err != nil {
		return Identity{}, err
	}
	return Identity{Name: name, Roles: roles, Serial: Serial(leaf.SerialNumber), Fingerprint: Fingerprint(leaf), NotAfter: s.until(name, chains), sent: sent, seen: s.number}, nil
}

// until returns the end of what a certificate proves: when the first certificate of its way to our CAs expires, its own or a CA's
// above it; of several clean ways, of the one that lasts longest.
func (s *snapshot) until(name string, chains [][]*x509.Certificate) (last time.Time) {
	for _, chain := range chains {
		if s.standing(name, [][]*x509.Certificate{chain}) != nil {
			continue
		}
		first := chain[0].NotAfter
		for _, c := range chain[1:] {
			if c.NotAfter.Before(first) {
				first = c.NotAfter
			}
		}
		if first.After(last) {
			last = first
		}
	}
	return last
}

func (s *snapshot) roles(name string, leaf *x509.Certificate) (Roles, error) {
	named, names, err := certificateRoles(leaf)
	if err != nil {
		return 0, refuse(NotAllowed, nil, "the certificate of %s (serial %s) has no role that is known: %v", clip(name), Serial(leaf.SerialNumber), err)
	}
	roles := s.rules.rolesOf(name, named, names)
	if roles == 0 {
		return 0, refuse(NotAllowed, nil, "%s (certificate %s) may do nothing here: its certificate names the roles %q, and no pattern in tls_senders, tls_readers or tls_admins has its name", clip(name), Serial(leaf.SerialNumber), named)
	}
	return roles, nil
}

// server checks the certificate of a server that was called by the name want.
func (s *snapshot) server(sent []*x509.Certificate, want string, now time.Time) error {
	if len(sent) == 0 {
		return refuse(NoCertificate, nil, "%s sent no certificate", want)
	}
	leaf := sent[0]
	chains, err := s.chains(sent, x509.ExtKeyUsageServerAuth, now)
	if err != nil {
		return err
	}
	if err := leaf.VerifyHostname(want); err != nil {
		return refuse(WrongName, err, "the server at %s has a certificate for %s, not for %s: name it so, or have a certificate issued that has this name, too", want, certificateFor(leaf), want)
	}
	return s.standing(want, chains)
}

// certificateFor lists the names that a server's certificate is for.
func certificateFor(c *x509.Certificate) string {
	names := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	if len(names) == 0 {
		return "no name at all"
	}
	const most = 8
	if len(names) > most {
		names = append(names[:most], "…")
	}
	for i := range names {
		names[i] = clip(names[i])
	}
	return strings.Join(names, ", ")
}

func (s *snapshot) noCertificate(err error) *Refusal {
	return refuse(NoCertificate, err, "the peer sent no certificate: it needs one of a CA that is trusted here (%s), and its key", caNames(s.cas))
}

// invalid says in words why X.509 refused a certificate.
func (s *snapshot) invalid(leaf *x509.Certificate, err error, now time.Time) *Refusal {
	var unknown x509.UnknownAuthorityError
	var wrong x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return s.unknown(leaf, unknown, err)
	case errors.As(err, &wrong) && wrong.Reason == x509.Expired:
		return s.untimely(leaf, wrong.Cert, err, now)
	case errors.As(err, &wrong) && wrong.Reason == x509.IncompatibleUsage:
		return refuse(BadUse, err, "the certificate of %s (serial %s) is not for this use: its extended key usage must have both clientAuth and serverAuth, as one side needs the one and one the other", certificateFor(leaf), Serial(leaf.SerialNumber))
	}
	return refuse(BadUse, err, "the certificate of %s (serial %s) cannot be used: %s", certificateFor(leaf), Serial(leaf.SerialNumber), clip(err.Error()))
}

// unknown says which CA a peer's certificate has, and which ones we have.
func (s *snapshot) unknown(leaf *x509.Certificate, unknown x509.UnknownAuthorityError, err error) *Refusal {
	for _, ca := range s.cas {
		if string(ca.RawSubject) == string(leaf.RawIssuer) {
			return refuse(UnknownCA, err, "the certificate of %s (serial %s) says that %q issued it, but it is not signed by the CA of that name that is trusted here: that CA was made anew, or somebody pretends to be it", certificateFor(leaf), Serial(leaf.SerialNumber), clip(leaf.Issuer.String()))
		}
	}
	missing := leaf
	if unknown.Cert != nil {
		missing = unknown.Cert
	}
	return refuse(UnknownCA, err, "the certificate of %s (serial %s) was issued by %q, which is not trusted here: trusted are %s; add that CA to the file of CAs, or, where it stands between, the peer must send its certificate, too", certificateFor(leaf), Serial(leaf.SerialNumber), clip(missing.Issuer.String()), caNames(s.cas))
}

// untimely says of a certificate that has expired or is not valid yet since when that is so,
// and by which clock.
func (s *snapshot) untimely(leaf, c *x509.Certificate, err error, now time.Time) *Refusal {
	whose := fmt.Sprintf("the certificate of %s (serial %s)", certificateFor(leaf), Serial(leaf.SerialNumber))
	if c != nil && c.IsCA && !c.Equal(leaf) {
		whose += fmt.Sprintf(": the CA certificate %q above it", clip(c.Subject.String()))
	}
	if c == nil {
		c = leaf
	}
	if now.Before(c.NotBefore) {
		return refuse(NotYetValid, err, "%s is not valid before %s, in %s; it is %s by this machine's clock: compare the clocks", whose, stamp(c.NotBefore), about(c.NotBefore.Sub(now)), stamp(now))
	}
	return refuse(Expired, err, "%s expired at %s, %s ago by this machine's clock, which says %s: renew it, or set the clock", whose, stamp(c.NotAfter), about(now.Sub(c.NotAfter)), stamp(now))
}

// caNames lists CAs for a message.
func caNames(cas []*x509.Certificate) string {
	const most = 8
	names := make([]string, 0, most)
	for i, c := range cas {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(cas)-most))
			break
		}
		names = append(names, fmt.Sprintf("%q", clip(c.Subject.String())))
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// clip bounds what a peer has written and a message quotes, and takes out what a terminal or
// a reader of logs would obey: a stranger chooses it.
func clip(text string) string {
	const most = 200
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// about rounds a duration for people.
func about(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	return fmt.Sprintf("%d seconds", d/time.Second)
}
