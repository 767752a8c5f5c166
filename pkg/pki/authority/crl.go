package authority

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/pki"
)

const (
	// CRLLife is how long a revocation list is good for unless it is said.
	CRLLife = 180 * 24 * time.Hour
	// keepExpired is how long a certificate that has expired stays on the list, for those
	// whose clocks are behind.
	keepExpired = 24 * time.Hour
)

// ErrCRL is returned where certificates were revoked, and are in the deny list, but not in the
// revocation list.
var ErrCRL = errors.New("the revocation list was not written")

// CRL is what a revocation list says of itself.
type CRL struct {
	Path    string
	Number  *big.Int
	Revoked int       // certificates
	Next    time.Time // when it is overdue: what is built on OpenSSL refuses everybody then
}

// CRL returns the revocation list of this CA as it is in the folder; fs.ErrNotExist before
// the first one.
func (ca *CA) CRL() (*CRL, error) {
	path := ca.cfg.path(CRLFile)
	data, err := readFile(ca.cfg.FS, path)
	if err != nil {
		return nil, err
	}
	foreign := func(why string) (*CRL, error) {
		return nil, fmt.Errorf("%s %s: it is never overwritten; move it away", path, why)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "X509 CRL" {
		return foreign("is no revocation list in PEM")
	}
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil || list.Number == nil {
		return foreign("can't be read as a revocation list")
	}
	if err := list.CheckSignatureFrom(ca.cert); err != nil {
		return foreign("is not signed by this CA")
	}
	return &CRL{Path: path, Number: list.Number, Revoked: len(list.RevokedCertificateEntries), Next: list.NextUpdate}, nil
}

// WriteCRL signs another revocation list, which is good for a life, whether anything has
// changed or not.
func (ca *CA) WriteCRL(ctx context.Context, life time.Duration) (*CRL, error) {
	unlock, err := lock(ctx, ca.cfg)
	if err != nil {
		return nil, err
	}
	defer unlock()
	list, err := ca.index()
	if err != nil {
		return nil, err
	}
	return ca.writeCRL(list, life)
}

// writeCRL signs the list of what is revoked in the index. The folder is locked.
func (ca *CA) writeCRL(list []Entry, life time.Duration) (*CRL, error) {
	now := ca.cfg.Now()
	// Numbers only grow. That of the time is greater than any before it, also where the
	// list was lost.
	number := big.NewInt(now.Unix())
	switch old, err := ca.CRL(); {
	case err == nil:
		if next := new(big.Int).Add(old.Number, big.NewInt(1)); next.Cmp(number) > 0 {
			number = next
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	key, err := ca.signer()
	if err != nil {
		return nil, err
	}
	template := &x509.RevocationList{Number: number, ThisUpdate: now.Add(-skew).Truncate(time.Second), NextUpdate: now.Add(life).Truncate(time.Second)}
	for _, e := range list {
		if e.Revoked.IsZero() || now.After(e.NotAfter.Add(keepExpired)) {
			continue
		}
		serial, ok := new(big.Int).SetString(e.Serial, 16)
		if !ok {
			return nil, fmt.Errorf("%s: serial %q is no number", ca.cfg.path(IndexFile), e.Serial)
		}
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: e.Revoked})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, ca.cert, key)
	if err != nil {
		return nil, fmt.Errorf("sign a revocation list: %w", err)
	}
	path := ca.cfg.path(CRLFile)
	if err := fsys.ReplaceOn(ca.cfg.FS, path, encode("X509 CRL", der), 0o644); err != nil {
		return nil, err
	}
	return &CRL{Path: path, Number: number, Revoked: len(template.RevokedCertificateEntries), Next: template.NextUpdate}, nil
}

// listRevoked brings the revocation list in line with the index after a change, or where a
// run was killed before it could. The folder is locked.
func (ca *CA) listRevoked(list []Entry, fresh int) error {
	if fresh == 0 && ca.crlHas(list) {
		return nil
	}
	if _, err := ca.writeCRL(list, CRLLife); err != nil {
		return fmt.Errorf("%w: %w", ErrCRL, err)
	}
	return nil
}

// crlHas reports whether the list in the folder has all that is revoked and has not expired.
func (ca *CA) crlHas(list []Entry) bool {
	data, err := readFile(ca.cfg.FS, ca.cfg.path(CRLFile))
	block, _ := pem.Decode(data)
	if err != nil || block == nil {
		return false
	}
	crl, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		return false
	}
	has := map[string]bool{}
	for _, e := range crl.RevokedCertificateEntries {
		has[pki.Serial(e.SerialNumber)] = true
	}
	for _, e := range list {
		if !e.Revoked.IsZero() && !ca.cfg.Now().After(e.NotAfter) && !has[e.Serial] {
			return false
		}
	}
	return true
}
