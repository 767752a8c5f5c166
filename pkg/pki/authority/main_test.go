package authority

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/pki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

const (
	tenYears = 3652 * 24 * time.Hour
	ninety   = 90 * 24 * time.Hour
)

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

// request asks for a usual certificate.
func request(name string) Request { return Request{Name: name, Roles: pki.Send, Life: ninety} }

func newAuthority(t testing.TB, f fsys.FS, dir string) *CA {
	t.Helper()
	ca, err := Init(t.Context(), Config{Dir: dir, FS: f, Now: at(noon)}, "", tenYears)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// csr makes a key and a certificate request for names.
func csr(t testing.TB, names ...string) []byte {
	t.Helper()
	key, _, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return csrOf(t, key, names...)
}

func csrOf(t testing.TB, key crypto.Signer, names ...string) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
