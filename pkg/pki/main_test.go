package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is the time in tests that hand in a clock.
var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// testCA makes certificates for tests.
type testCA struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	last int64
}

func newCA(t testing.TB, name string) *testCA { return newCAUnder(t, name, nil) }

// newCAUnder makes an intermediate CA.
func newCAUnder(t testing.TB, name string, above *testCA) *testCA {
	t.Helper()
	ca := &testCA{t: t, key: newKey(t), last: 0x1000}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(name)) + 1), Subject: pkix.Name{CommonName: name},
		NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(9, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	parent, signer := template, ca.key
	if above != nil {
		parent, signer = above.cert, above.key
	}
	ca.cert = sign(t, template, parent, &ca.key.PublicKey, signer)
	return ca
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// issued is a certificate with its key.
type issued struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	above []*x509.Certificate // sent behind it
}

// issue makes a certificate for a host, changed as change says.
func (ca *testCA) issue(name string, change ...func(*x509.Certificate)) issued {
	ca.t.Helper()
	ca.last++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(ca.last), Subject: pkix.Name{CommonName: "not counted"}, DNSNames: []string{name},
		NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, f := range change {
		f(template)
	}
	key := newKey(ca.t)
	return issued{cert: sign(ca.t, template, ca.cert, &key.PublicKey, ca.key), key: key}
}

func units(list ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.Subject.OrganizationalUnit = list }
}

func uris(t testing.TB, list ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		for _, text := range list {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

func (i issued) tls() tls.Certificate {
	c := tls.Certificate{Certificate: [][]byte{i.cert.Raw}, PrivateKey: i.key}
	for _, a := range i.above {
		c.Certificate = append(c.Certificate, a.Raw)
	}
	return c
}

func certPEM(list ...*x509.Certificate) []byte {
	var b []byte
	for _, c := range list {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

func (i issued) keyPEM(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// write replaces a file as an administrator's tool does.
func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// files are those of one end.
type files struct{ ca, cert, key, deny, crl string }

func newFiles(t testing.TB, own issued, cas ...*x509.Certificate) files {
	t.Helper()
	dir := t.TempDir()
	f := files{ca: filepath.Join(dir, "ca.crt"), cert: filepath.Join(dir, "own.crt"), key: filepath.Join(dir, "own.key"), deny: filepath.Join(dir, "revoked"), crl: filepath.Join(dir, "crl.pem")}
	write(t, f.ca, certPEM(cas...))
	f.put(t, own)
	write(t, f.deny, nil)
	return f
}

func (f files) put(t testing.TB, own issued) {
	t.Helper()
	write(t, f.key, own.keyPEM(t))
	write(t, f.cert, certPEM(append([]*x509.Certificate{own.cert}, own.above...)...))
}

func (f files) config() Config {
	return Config{CA: f.ca, Cert: f.cert, Key: f.key, Deny: f.deny, Now: func() time.Time { return noon }}
}

func open(t testing.TB, cfg Config) *Trust {
	t.Helper()
	trust, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// handshake has two ends speak over loopback, and returns what each says: the client's word
// is that of its first read.
func handshake(t testing.TB, server, client *tls.Config) (state tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			done <- err
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		c := tls.Client(conn, client)
		if err := c.Handshake(); err != nil {
			done <- err
			return
		}
		_, err = io.ReadAll(c)
		done <- err
	}()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	s := tls.Server(conn, server)
	serverErr = s.HandshakeContext(context.Background())
	if serverErr == nil {
		state = s.ConnectionState()
	}
	// What the other end has said must be read, or closing throws away what we said.
	if serverErr != nil {
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
	}
	_ = s.Close()
	return state, serverErr, <-done
}

// logged returns a logger and what it has logged.
func logged() (hclog.Logger, *strings.Builder) {
	var b strings.Builder
	return hclog.New(&hclog.LoggerOptions{Output: &b, DisableTime: true}), &b
}

func has(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q lacks %q", text, p)
		}
	}
}

func crl(t testing.TB, ca *testCA, serials ...*big.Int) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: noon.Add(-time.Hour), NextUpdate: noon.Add(time.Hour)}
	for _, n := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: noon.Add(-2 * time.Hour)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, ca.cert, ca.key)
	if err != nil {
		t.Fatal(fmt.Errorf("revocation list: %w", err))
	}
	return der
}
