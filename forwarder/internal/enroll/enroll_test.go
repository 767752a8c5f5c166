package enroll

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/pki/authority"
	"github.com/auditfleet/auditfleet/proto/enroll"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector is a server that enrols, as the real one does.
type collector struct {
	t     *testing.T
	ca    *authority.CA
	trust *pki.Trust
	addr  string
	dir   string
}

const day = 24 * time.Hour

func newCollector(t *testing.T, names ...string) *collector {
	t.Helper()
	c := &collector{t: t, dir: t.TempDir()}
	var err error
	if c.ca, err = authority.Init(t.Context(), authority.Config{Dir: filepath.Join(c.dir, "ca")}, "", 3650*day); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(c.dir, "tls")
	if _, err := c.ca.Issue(t.Context(), authority.Request{Name: "collector1", IP: names, Roles: pki.Send, Life: 90 * day}, out); err != nil {
		t.Fatal(err)
	}
	if c.trust, err = pki.Open(pki.Config{CA: filepath.Join(out, "ca.crt"), Cert: filepath.Join(out, "collector1.crt"), Key: filepath.Join(out, "collector1.key"), Deny: c.ca.Deny()}); err != nil {
		t.Fatal(err)
	}
	c.addr = c.serve(c.trust.WithAnonymous(c.trust.Server("h2", enroll.Renew), enroll.Token, c.ca.Certificate()))
	return c
}

// serve answers as the collector does, and returns where.
func (c *collector) serve(cfg *tls.Config) string {
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() { c.answer(conn.(*tls.Conn)) })
		}
	})
	c.t.Cleanup(func() {
		l.Close()
		served.Wait()
	})
	return l.Addr().String()
}

func (c *collector) answer(conn *tls.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	if conn.Handshake() != nil {
		return
	}
	var request enroll.Request
	if enroll.Read(conn, &request) != nil {
		return
	}
	var reply enroll.Reply
	state := conn.ConnectionState()
	var cert *x509.Certificate
	var err error
	if state.NegotiatedProtocol == enroll.Renew {
		cert, err = c.ca.Renew(context.Background(), state.PeerCertificates[0], request.Request)
	} else {
		cert, err = c.ca.Redeem(context.Background(), request.Token, request.Request)
	}
	if err != nil {
		reply.Error = err.Error()
	} else {
		reply.Certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	}
	_ = enroll.Write(conn, &reply)
}

func (c *collector) token(host string, life time.Duration) string {
	c.t.Helper()
	t, err := c.ca.NewToken(c.t.Context(), authority.Request{Name: host, Roles: pki.Send, Life: life}, time.Hour)
	if err != nil {
		c.t.Fatal(err)
	}
	return t.Reveal()
}

// TestToken gets a certificate, which then is taken by the collector.
func TestToken(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022))
	c := newCollector(t, "127.0.0.1")
	out := filepath.Join(t.TempDir(), "tls")
	text := c.token("web1", 90*day)
	files, err := Token(t.Context(), c.addr, text, out)
	if err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{out: 0o700, files.Key: 0o600, files.Cert: 0o644, files.CA: 0o644} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	trust, err := pki.Open(pki.Config{CA: files.CA, Cert: files.Cert, Key: files.Key})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", c.addr, trust.Client("127.0.0.1", "h2"))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	again := func(what, server, token, out, want string) {
		t.Helper()
		before, _ := os.ReadDir(out)
		_, err := Token(t.Context(), server, token, out)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), token) && token != "" {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
		if after, _ := os.ReadDir(out); len(after) != len(before) {
			t.Errorf("%s: files stay: %v", what, after)
		}
	}
	again("the same folder", c.addr, text, out, "web1.crt is there already")
	again("used", c.addr, text, t.TempDir(), "was used at")
	again("mistyped", c.addr, text[:30], t.TempDir(), "cut off")
	fresh := c.token("web2", 90*day)
	foreign := t.TempDir()
	other := newCollector(t, "127.0.0.1")
	if err := os.WriteFile(filepath.Join(foreign, "ca.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.ca.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	again("a folder of another CA", c.addr, fresh, foreign, "is there already with other CAs")
	again("another collector", other.addr, fresh, t.TempDir(), "does not know the CA of the token")
	again("another name", strings.Replace(c.addr, "127.0.0.1", "localhost", 1), fresh, t.TempDir(), "for collector1, 127.0.0.1, not for localhost")
	again("no enrolment", c.serve(c.trust.Server("h2")), fresh, t.TempDir(), "issues no certificates")
	clear, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer clear.Close()
	go func() {
		for {
			conn, err := clear.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("220 mail.example.com ESMTP\r\n"))
			conn.Close()
		}
	}()
	again("not TLS", clear.Addr().String(), fresh, t.TempDir(), "does not speak TLS")
	// None of these has used the token up.
	if _, err := Token(t.Context(), c.addr, fresh, t.TempDir()); err != nil {
		t.Error(err)
	}
}

// TestImpostor has somebody between who shows the CA's certificate, which everybody may have,
// behind his own: he gets no token.
func TestImpostor(t *testing.T) {
	c, thief := newCollector(t, "127.0.0.1"), newCollector(t, "127.0.0.1")
	addr := thief.serve(thief.trust.WithAnonymous(thief.trust.Server("h2"), enroll.Token, c.ca.Certificate()))
	text := c.token("web1", 90*day)
	if _, err := Token(t.Context(), addr, text, t.TempDir()); !errors.Is(err, pki.UnknownCA) {
		t.Errorf("%v", err)
	}
	if list, err := c.ca.Tokens(); err != nil || !list[0].Used.IsZero() {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestRenew renews a certificate by itself, in place.
func TestRenew(t *testing.T) {
	c := newCollector(t, "127.0.0.1")
	files, err := Token(t.Context(), c.addr, c.token("web1", time.Hour), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	trust, err := pki.Open(pki.Config{CA: files.CA, Cert: files.Cert, Key: files.Key})
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	logger := hclog.New(&hclog.LoggerOptions{Output: &said})
	servers := []string{"127.0.0.1:1"}
	clock := func() time.Time { return time.Now().Add(50 * time.Minute) }
	r := &Renewer{Trust: trust, Cert: files.Cert, Key: files.Key, Servers: servers, Log: logger, Now: clock}
	if _, err := r.once(t.Context()); err == nil {
		t.Error("renewed by nobody")
	}
	r.Servers = append(r.Servers, c.addr)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	need.Wait(t, "another certificate", func() bool { return !trust.Certificate().Equal(files.Leaf) })
	stop()
	<-done
	list, err := c.ca.List()
	if err != nil || len(list) < 3 || list[2].Name != "web1" || list[2].NotAfter.Sub(list[2].NotBefore) != list[1].NotAfter.Sub(list[1].NotBefore) {
		t.Errorf("%+v, %v", list, err)
	}
	// A host that renews all the time is stopped, if later where its certificates live for an hour only.
	for range 150 {
		if _, err = r.once(t.Context()); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "within a day") {
		t.Errorf("%v", err)
	}
	if _, _, err := c.ca.Revoke(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.once(t.Context()); err == nil || !strings.Contains(err.Error(), "is revoked") {
		t.Errorf("revoked: %v", err)
	}
}

// TestWhen tells when certificates are renewed, and how often it is tried.
func TestWhen(t *testing.T) {
	c := newCollector(t)
	cert, err := c.ca.Issue(t.Context(), authority.Request{Name: "web1", Roles: pki.Send, Life: 90 * day}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	life := cert.NotAfter.Sub(cert.NotBefore)
	if at := until(cert, cert.NotBefore); at > life*2/3 || at < life*2/3-life/20 {
		t.Errorf("after %s of %s", at, life)
	}
	for left, want := range map[time.Duration]time.Duration{30 * day: time.Hour, 5 * time.Hour: 15 * time.Minute, time.Minute: time.Minute, -day: time.Minute} {
		if got := pause(cert, cert.NotAfter.Add(-left)); got != want {
			t.Errorf("with %s left: %s, want %s", left, got, want)
		}
	}
}
