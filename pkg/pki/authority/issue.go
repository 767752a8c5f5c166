package authority

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/pki"
)

// Request says what certificate is wanted.
type Request struct {
	Name  string   // the host's name, which the certificate proves
	DNS   []string // further names by which it is called as a server
	IP    []string // addresses by which it is called as a server
	Roles pki.Roles
	Life  time.Duration
}

// clean checks a request, and returns it as it will stand in the certificate.
func (r Request) clean() (Request, error) {
	name, err := pki.CheckName(r.Name)
	if err != nil {
		return r, err
	}
	// A name is a file's name, too: NAME.crt.
	if name == "ca" {
		return r, errors.New(`the name "ca" is taken: its certificate would be ca.crt, which is the CA's`)
	}
	r.Name = name
	if len(r.DNS)+len(r.IP) > 64 {
		return r, errors.New("more than 64 further names and addresses")
	}
	for i, dns := range r.DNS {
		if r.DNS[i], err = pki.CheckName(dns); err != nil {
			return r, err
		}
	}
	for _, ip := range r.IP {
		if a, err := netip.ParseAddr(ip); err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			return r, fmt.Errorf("%.80q is no address that a host has", ip)
		}
	}
	switch {
	case r.Roles == 0:
		return r, errors.New("a certificate without a role is of no use: send, read and admin are the roles")
	case r.Life < time.Minute:
		return r, fmt.Errorf("a life of %s is too short: a minute is the least", r.Life)
	}
	return r, nil
}

// template returns the certificate that a request asks for.
func (ca *CA) template(r Request) *x509.Certificate {
	now := ca.cfg.Now()
	t := &x509.Certificate{
		SerialNumber: newSerial(), DNSNames: []string{r.Name},
		NotBefore: now.Add(-skew).Truncate(time.Second), NotAfter: now.Add(r.Life).Truncate(time.Second),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if t.NotBefore.Before(ca.cert.NotBefore) {
		t.NotBefore = ca.cert.NotBefore
	}
	if t.NotAfter.After(ca.cert.NotAfter) {
		t.NotAfter = ca.cert.NotAfter
	}
	if len(r.Name) <= 64 { // X.509 has no longer common names
		t.Subject.CommonName = r.Name
	}
	t.Subject.OrganizationalUnit = r.Roles.Units()
	for _, dns := range r.DNS {
		if dns != r.Name {
			t.DNSNames = append(t.DNSNames, dns)
		}
	}
	for _, ip := range r.IP {
		t.IPAddresses = append(t.IPAddresses, netip.MustParseAddr(ip).Unmap().AsSlice())
	}
	return t
}

// sign makes the certificate for a public key and lists it; it is on stable storage in the
// index before the caller gets it. The folder is locked.
func (ca *CA) sign(r Request, public crypto.PublicKey, template *x509.Certificate) (*x509.Certificate, error) {
	key, err := ca.signer()
	if err != nil {
		return nil, err
	}
	list, err := ca.index()
	if err != nil {
		return nil, err
	}
	cert, err := create(template, ca.cert, public, key)
	if err != nil {
		return nil, err
	}
	return cert, ca.writeIndex(append(unlisted(list, ca.cfg.Now()), Entry{
		Serial: pki.Serial(cert.SerialNumber), Fingerprint: pki.Fingerprint(cert), Name: r.Name, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, Roles: r.Roles,
	}))
}

// Issue makes a key and a certificate and writes them to the folder out, as NAME.key and
// NAME.crt, with the CA's certificate as ca.crt beside them. It overwrites nothing.
func (ca *CA) Issue(ctx context.Context, r Request, out string) (*x509.Certificate, error) {
	r, err := r.clean()
	if err != nil {
		return nil, err
	}
	if _, err := ca.signer(); err != nil {
		return nil, err
	}
	f := ca.cfg.FS
	if err := makeFolder(f, out); err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, ca.cfg)
	if err != nil {
		return nil, err
	}
	defer unlock()
	names := []string{r.Name + ".key", r.Name + ".crt"}
	for _, name := range names {
		if size, err := f.Size(filepath.Join(out, name)); !errors.Is(err, fs.ErrNotExist) {
			if err != nil {
				return nil, err
			}
			if size == 0 {
				return nil, fmt.Errorf("%s is there already, and empty: a run that was killed left it; remove %s and %s", filepath.Join(out, name), names[0], names[1])
			}
			return nil, fmt.Errorf("%s is there already, and is never overwritten: choose another --out, or move %s and %s away", filepath.Join(out, name), names[0], names[1])
		}
	}
	if err := ca.putCertificate(out); err != nil {
		return nil, err
	}
	key, pemKey, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	cert, err := ca.sign(r, key.Public(), ca.template(r))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{names[0]: pemKey, names[1]: encode("CERTIFICATE", cert.Raw)}
	for i, name := range names {
		if err := fsys.CreateOn(f, filepath.Join(out, name), files[name], []fs.FileMode{0o600, 0o644}[i]); err != nil {
			for _, name := range names[:i] {
				_ = f.Remove(filepath.Join(out, name)) // without the other one it is of no use
			}
			return nil, fmt.Errorf("certificate %s of %s is listed, but nobody has it: %w", pki.Serial(cert.SerialNumber), r.Name, err)
		}
	}
	return cert, nil
}

// makeFolder makes a folder for keys. One that is there may be anybody's to read, but not
// to write.
func makeFolder(f fsys.FS, dir string) error {
	if err := f.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return f.SyncDir(filepath.Dir(filepath.Clean(dir)))
}

// putCertificate writes the CA's certificate to a folder that does not have it.
func (ca *CA) putCertificate(out string) error {
	path := filepath.Join(out, CertFile)
	there, err := readFile(ca.cfg.FS, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fsys.CreateOn(ca.cfg.FS, path, encode("CERTIFICATE", ca.cert.Raw), 0o644)
	case err != nil:
		return err
	}
	list, err := pki.ParseCertificates(path, there)
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.Equal(ca.cert) {
			return nil
		}
	}
	return fmt.Errorf("%s is there already with other CAs (%q), and is never overwritten: choose another --out, or move it away", path, strings.ToValidUTF8(list[0].Subject.String(), "?"))
}
