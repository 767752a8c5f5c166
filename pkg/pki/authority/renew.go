package authority

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/auditfleet/auditfleet/pkg/pki"
)

// maxRenewals is how many certificates of one name are issued in a day for the asking, beside
// those that short lives need.
const maxRenewals = 8

// mayRenew is how many that are for certificates of a life: a host asks for another one when
// two thirds of it are over, and again where an attempt fails.
func mayRenew(life time.Duration) int {
	return maxRenewals + int(4*24*time.Hour/max(life, time.Minute))
}

// ErrRenew is returned for a certificate that is not renewed.
var ErrRenew = errors.New("the certificate is not renewed")

// Renew issues another certificate like one of this CA that is valid: with its name, further
// names, addresses, roles and life, for the key of the request. The caller has seen its
// owner prove that it has the old one's key.
func (ca *CA) Renew(ctx context.Context, old *x509.Certificate, request []byte) (*x509.Certificate, error) {
	if err := old.CheckSignatureFrom(ca.cert); err != nil {
		return nil, fmt.Errorf("%w: it is not of this CA", ErrRenew)
	}
	if len(old.DNSNames) == 0 {
		return nil, fmt.Errorf("%w: it names no host", ErrRenew)
	}
	public, err := checkRequest(request, old.DNSNames[0])
	if err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, ca.cfg)
	if err != nil {
		return nil, err
	}
	defer unlock()
	list, err := ca.index()
	if err != nil {
		return nil, err
	}
	now, serial, life := ca.cfg.Now(), pki.Serial(old.SerialNumber), old.NotAfter.Sub(old.NotBefore)-skew
	var e *Entry
	today := 0
	for i := range list {
		if list[i].Serial == serial {
			e = &list[i]
		}
		if list[i].Name == old.DNSNames[0] && now.Sub(list[i].NotBefore) < 24*time.Hour {
			today++
		}
	}
	switch {
	case e == nil || e.Fingerprint != pki.Fingerprint(old) || e.Name != old.DNSNames[0]:
		return nil, fmt.Errorf("%w: it is not in the index", ErrRenew)
	case e.State(now) != "valid":
		return nil, fmt.Errorf("%w: it is %s", ErrRenew, e.State(now))
	case today >= mayRenew(life):
		return nil, fmt.Errorf("%w: %d certificates of %s were issued within a day", ErrRenew, today, e.Name)
	}
	r := Request{Name: e.Name, DNS: old.DNSNames[1:], Roles: e.Roles, Life: life}
	for _, ip := range old.IPAddresses {
		r.IP = append(r.IP, ip.String())
	}
	if r, err = r.clean(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRenew, err)
	}
	return ca.sign(r, public, ca.template(r))
}
