package server

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/pki/authority"
	"github.com/auditfleet/auditfleet/pkg/psktls"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// testCA is a CA, and what it has issued.
type testCA struct {
	t   *testing.T
	ca  *authority.CA
	dir string // of what it has issued
}

func newCA(t *testing.T) *testCA {
	t.Helper()
	dir := t.TempDir()
	ca, err := authority.Init(t.Context(), authority.Config{Dir: filepath.Join(dir, "ca")}, "tests", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return &testCA{t: t, ca: ca, dir: dir}
}

// files are those of a host, which is issued a certificate.
func (c *testCA) files(name string, roles pki.Roles) pki.Config {
	c.t.Helper()
	out := filepath.Join(c.dir, name)
	if _, err := c.ca.Issue(c.t.Context(), authority.Request{Name: name, IP: []string{"127.0.0.1"}, Roles: roles, Life: 30 * time.Minute}, out); err != nil {
		c.t.Fatal(err)
	}
	return pki.Config{CA: filepath.Join(out, "ca.crt"), Cert: filepath.Join(out, name+".crt"), Key: filepath.Join(out, name+".key")}
}

// client is what a host connects with.
func (c *testCA) client(name string, roles pki.Roles) *tls.Config {
	c.t.Helper()
	trust, err := pki.Open(c.files(name, roles))
	if err != nil {
		c.t.Fatal(err)
	}
	return trust.Client("127.0.0.1")
}

// dialTLS connects to the listener with TLS. The server's verdict comes with the first read.
func (r *running) dialTLS(cfg *tls.Config) (*tls.Conn, error) {
	r.t.Helper()
	c, err := net.Dial("tcp", r.secured.Addrs()[0].String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	s := tls.Client(c, cfg)
	return s, s.Handshake()
}

// kept is each event as the query API gives it: its host, what it claims, how it came.
func kept(t *testing.T, r *running, q *query.Query) (out []string) {
	t.Helper()
	q.Origin = true
	if err := r.client().Scan(t.Context(), q, func(ev *event.Event) error {
		line := string(ev.Node) + " claims " + string(ev.Records[0].Node) + " by " + ev.From.Transport.String() + " proved " + ev.From.Host
		out = append(out, line)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// Who connects with a certificate is the host that it names, whatever its records say, and
// nobody else is it. What is stored that way is there after a restart.
func TestTLSProvesTheHost(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	cfg := testConfig(shortDir(t))
	cfg.ListenTLS, cfg.TLS = []string{"127.0.0.1:0"}, ca.files("hub", pki.Send)
	cfg.TLS.Deny = ca.ca.Deny()
	r := start(t, cfg)
	c, err := r.dialTLS(ca.client("web1", pki.Send))
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c, 1, userRecord("web1", 1), userRecord("db1", 2), strings.TrimPrefix(userRecord("x", 3), "node=x "))
	plain := r.dial()
	exchange(t, plain, 1, userRecord("web1", 4), userRecord("web2", 5))
	want := []string{
		"127.0.0.1 claims web1 by tcp proved ", "web1 claims db1 by tls proved web1", "web1 claims web1 by tls proved web1",
		"web1 claims web1 by tls proved web1", "web2 claims web2 by tcp proved ",
	}
	check := func(when string) {
		t.Helper()
		all := kept(t, r, &query.Query{Types: []uint32{1112}})
		if d := cmp.Diff(want, all); d != "" {
			t.Errorf("%s (-want +got):\n%s", when, d)
		}
		if got := kept(t, r, &query.Query{Mismatch: true}); len(got) != 2 {
			t.Errorf("%s, flagged: %q", when, got)
		}
	}
	check("running")
	for _, want := range []string{"type=CRYPTO_SESSION", "cipher=TLS_AES_128_GCM_SHA256 ksize=128", "pfs=X25519MLKEM768 auth=cert", `acct="web1"`,
		`op=name-mismatch host="web1" claims="db1"`, `op=name-refused host="127.0.0.1" claims="web1"`} {
		need.Wait(t, want, func() bool {
			return strings.Contains(strings.Join(raws(t, scanner(r.client()), "collector.test"), "\n"), want)
		})
	}
	_ = c.Close()
	_ = plain.Close()
	r.stop()
	r = start(t, cfg)
	check("after a restart")

	// A peer that is revoked is cut off, and does not come back.
	c, err = r.dialTLS(ca.client("web9", pki.Send))
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c, 1, userRecord("web9", 6))
	if _, _, err := ca.ca.Revoke(t.Context(), "web9"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err == nil {
		t.Log("cut off without an alert")
	}
	need.Wait(t, "the refusal in the log", func() bool { return strings.Contains(r.log.String(), "reason=revoked") })
}

// Each peer that is refused is refused for its reason: in the log, as a record, and by a
// counter; and the others go on.
func TestTLSRefusals(t *testing.T) {
	t.Parallel()
	ca, other := newCA(t), newCA(t)
	cfg := testConfig(shortDir(t))
	cfg.Listen = nil
	cfg.ListenTLS, cfg.TLS = []string{"127.0.0.1:0"}, ca.files("hub", pki.Send)
	r := start(t, cfg)
	good, err := r.dialTLS(ca.client("web1", pki.Send))
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, good, 1, userRecord("web1", 1))
	_ = good.Close()
	trusting := func(c *tls.Config) *tls.Config {
		c.InsecureSkipVerify, c.VerifyConnection = true, nil
		return c
	}
	stranger := trusting(other.client("web1", pki.Send))
	bare := trusting(ca.client("web2", pki.Send))
	bare.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	old := trusting(ca.client("web3", pki.Send))
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	rpc := ca.client("web5", pki.Send)
	rpc.NextProtos = []string{"h2"}
	for _, c := range []struct {
		reason string
		cfg    *tls.Config
		hears  string
	}{
		{"unknown-ca", stranger, "unknown certificate authority"}, {"no-certificate", bare, "certificate required"}, {"old-protocol", old, "protocol version not supported"},
		{"not-allowed", ca.client("auditor", pki.Read), "bad certificate"}, {"other-protocol", rpc, "no application protocol"},
	} {
		before := len(raws(t, scanner(r.client()), "collector.test"))
		conn, err := r.dialTLS(c.cfg)
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		if err == nil || !strings.Contains(err.Error(), c.hears) {
			t.Errorf("%s: %v", c.reason, err)
		}
		need.Wait(t, c.reason+" as a record", func() bool {
			own := raws(t, scanner(r.client()), "collector.test")[before:]
			return slices.ContainsFunc(own, func(s string) bool { return strings.Contains(s, "op=tls-"+c.reason+" ") })
		})
		need.Wait(t, c.reason+" in the log", func() bool { return strings.Contains(r.log.String(), "reason="+c.reason) })
		if conn != nil {
			_ = conn.Close()
		}
	}
	text, err := net.Dial("tcp", r.secured.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = text.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
	_ = text.SetDeadline(time.Now().Add(time.Minute))
	_, _ = io.ReadAll(text)
	_ = text.Close()
	need.Wait(t, "not TLS", func() bool { return strings.Contains(r.log.String(), "reason=not-tls") })
	good, err = r.dialTLS(ca.client("web4", pki.Send))
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, good, 1, userRecord("web4", 2))
}

// What is missing for TLS is said at the start, with what to do.
func TestTLSNeedsItsFiles(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	for want, change := range map[string]func(*Config){
		"nothing to listen on": func(c *Config) { c.Listen = nil },
		"--tls-key":            func(c *Config) { c.ListenTLS, c.TLS.Key = []string{"127.0.0.1:0"}, "" },
		"is not there":         func(c *Config) { c.ListenTLS, c.TLS.CA = []string{"127.0.0.1:0"}, "/nowhere/ca" },
	} {
		cfg := testConfig(shortDir(t))
		cfg.TLS = pki.Config{}
		if want != "nothing to listen on" {
			cfg.TLS = ca.files("hub"+string(rune('a'+len(want)%26)), pki.Send)
		}
		change(&cfg)
		s, err := Open(cfg)
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// Who shows that it has an identity's key is that host, and who is disabled at a reload is
// cut off; an identity that is not known costs nothing but itself.
func TestPreSharedKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := func(name string) string {
		path := filepath.Join(dir, name+".psk")
		if err := os.WriteFile(path, []byte(strings.Repeat(name+"0a", 64)[:128]+"\n"), 0o400); err != nil {
			t.Fatal(err)
		}
		return path
	}
	clients := filepath.Join(dir, "clients")
	allow := func(web1 string) {
		text := "web1 " + web1 + " key=" + key("aa"+web1[:1]) + "\ndb1 enabled key=" + key("bb"+web1[:1]) + "\n"
		if err := os.WriteFile(clients, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	allow("enabled")
	cfg := testConfig(shortDir(t))
	cfg.PSK = &psktls.Settings{AllowedClients: clients}
	cfg.Limits.MaxPerAddr = 10
	r := start(t, cfg)
	connect := func(identity, keyFile string) (*psktls.Conn, error) {
		t.Helper()
		config, err := psktls.Settings{PSKFile: filepath.Join(dir, keyFile), PSKIdentity: identity}.Client()
		if err != nil {
			t.Fatal(err)
		}
		c := psktls.Client(r.dial(), config)
		return c, c.Handshake(t.Context())
	}
	web1, err := connect("web1", "aae.psk")
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, web1, 1, userRecord("web1", 1))
	for reason, try := range map[string][2]string{"unknown-identity": {"web7", "aae.psk"}, "wrong-key": {"db1", "aae.psk"}} {
		c, err := connect(try[0], try[1])
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		if err == nil {
			t.Errorf("%s: not refused", reason)
		}
		need.Wait(t, reason, func() bool { return strings.Contains(r.log.String(), "reason="+reason) })
	}
	allow("disabled")
	if err := r.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := web1.Read(make([]byte, 1)); err == nil {
		t.Error("who is disabled is still connected")
	}
	if got := kept(t, r, &query.Query{Nodes: []string{"web1"}}); !slices.Equal(got, []string{"web1 claims web1 by psk proved web1"}) {
		t.Errorf("%q", got)
	}
	if err := os.WriteFile(clients, []byte("web1 perhaps\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Reconfigure(cfg); err == nil || !strings.Contains(err.Error(), clients) {
		t.Errorf("a wrong file at a reload: %v", err)
	}
}
