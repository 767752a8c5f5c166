package enroll

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/pki/authority"
	"github.com/auditfleet/auditfleet/proto/enroll"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a collector with a CA, and one host of it.
type fixture struct {
	*Server
	dir  string
	said strings.Builder
	host *pki.Trust
	key  string // of the host
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{dir: t.TempDir()}
	ca, err := authority.Init(t.Context(), authority.Config{Dir: filepath.Join(f.dir, "ca")}, "", 3650*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	trust := func(name string) *pki.Trust {
		out := filepath.Join(f.dir, name)
		if _, err := ca.Issue(t.Context(), authority.Request{Name: name, Roles: pki.Send, Life: time.Hour}, out); err != nil {
			t.Fatal(err)
		}
		f.key = filepath.Join(out, name+".key")
		trust, err := pki.Open(pki.Config{CA: filepath.Join(out, "ca.crt"), Cert: filepath.Join(out, name+".crt"), Key: f.key, Deny: ca.Deny()})
		if err != nil {
			t.Fatal(err)
		}
		return trust
	}
	f.Server = New(Config{CA: ca, Trust: trust("hub"), Log: hclog.New(&hclog.LoggerOptions{Output: &f.said})})
	f.host = trust("web1")
	return f
}

// talk has a client send bytes to Serve, and returns the answer.
func (f *fixture) talk(t *testing.T, client *tls.Config, send func(net.Conn) error) (reply enroll.Reply, err error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", f.TLS(f.Trust.Server("h2", f.Renewal())))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	defer func() { <-done }()
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		c := conn.(*tls.Conn)
		if c.Handshake() == nil && f.Mine(c.ConnectionState().NegotiatedProtocol) {
			f.Serve(c, c.ConnectionState())
		}
		c.Close()
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), client)
	if err != nil {
		return reply, err
	}
	defer conn.Close()
	if err := send(conn); err != nil {
		return reply, err
	}
	err = enroll.Read(conn, &reply)
	return reply, err
}

func (f *fixture) request(t *testing.T, token string) func(net.Conn) error {
	t.Helper()
	key, _, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return func(c net.Conn) error { return enroll.Write(c, &enroll.Request{Token: token, Request: der}) }
}

func (f *fixture) token(t *testing.T, host string) string {
	t.Helper()
	token, err := f.CA.NewToken(t.Context(), authority.Request{Name: host, Roles: pki.Send, Life: time.Hour}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token.Reveal()
}

// TestServe answers strangers with tokens and hosts with certificates, and no one else.
func TestServe(t *testing.T) {
	f := newFixture(t)
	stranger := pki.PinnedClient("hub", f.CA.Fingerprint(), enroll.Token)
	token := f.token(t, "web2")
	reply, err := f.talk(t, stranger, f.request(t, token))
	if err != nil || !strings.HasPrefix(reply.Certificate, "-----BEGIN CERTIFICATE-----") {
		t.Fatalf("%+v, %v", reply, err)
	}
	reply, err = f.talk(t, stranger, f.request(t, token))
	if err != nil || !strings.Contains(reply.Error, "was used at") {
		t.Errorf("again: %+v, %v", reply, err)
	}
	reply, err = f.talk(t, f.host.Client("hub", enroll.Renew), f.request(t, ""))
	if err != nil || reply.Certificate == "" {
		t.Errorf("renew: %+v, %v", reply, err)
	}
	// A stranger can neither renew nor speak gRPC.
	for _, protocol := range [][]string{{enroll.Renew}, {"h2"}, {enroll.Token, "h2"}, nil} {
		c := stranger.Clone()
		c.NextProtos = protocol
		if reply, err := f.talk(t, c, f.request(t, f.token(t, "web3"))); err == nil {
			t.Errorf("%q: %+v", protocol, reply)
		}
	}
	for what, bytes := range map[string]string{"nothing": "", "half": "\x00\x00\x00\x09{}", "a huge length": "\xff\xff\xff\xff{}", "no JSON": "\x00\x00\x00\x02[[", "HTTP": "GET / HTTP/1.1\r\n\r\n"} {
		reply, err := f.talk(t, stranger, func(c net.Conn) error {
			if _, err := c.Write([]byte(bytes)); err != nil {
				return err
			}
			return c.(*tls.Conn).CloseWrite()
		})
		if err == nil {
			t.Errorf("%s: %+v", what, reply)
		}
	}
	// What is wrong with our files is not a stranger's to know.
	if err := os.WriteFile(filepath.Join(f.dir, "ca", authority.IndexFile), []byte("gone"), 0o600); err != nil {
		t.Fatal(err)
	}
	reply, err = f.talk(t, stranger, f.request(t, f.token(t, "web4")))
	if err != nil || strings.Contains(reply.Error, f.dir) || !strings.Contains(reply.Error, "its log has the reason") {
		t.Errorf("%+v, %v", reply, err)
	}
	for _, want := range []string{"host=web2", "renewed=true", authority.IndexFile} {
		if !strings.Contains(f.said.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if strings.Contains(f.said.String(), token) || strings.Contains(f.said.String(), "auditfleet1_") {
		t.Error("a token is in the log")
	}
}

// TestRevokedIsNotRenewed has a host whose certificate is revoked, by the deny list and only
// in the index.
func TestRevokedIsNotRenewed(t *testing.T) {
	f := newFixture(t)
	if _, _, err := f.CA.Revoke(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
	reply, err := f.talk(t, f.host.Client("hub", enroll.Renew), f.request(t, ""))
	if err != nil || !strings.Contains(reply.Error, "it is revoked") {
		t.Errorf("%+v, %v", reply, err)
	}
	if err := f.Trust.Reload(); err != nil {
		t.Fatal(err)
	}
	if reply, err := f.talk(t, f.host.Client("hub", enroll.Renew), f.request(t, "")); err == nil {
		t.Errorf("%+v", reply)
	}
}

// Strangers that ask again and again fill no log.
func TestRefusalsAreSeldomLogged(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 200 {
		f.complain(&f.theirs, "192.0.2.1:1", "enrolment: refused", authority.ErrToken)
	}
	if n := strings.Count(f.said.String(), "\n"); n != 5 {
		t.Errorf("%d lines for 200 refusals:\n%s", n, f.said.String())
	}
}
