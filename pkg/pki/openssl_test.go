package pki

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// workshop is a folder in which the real openssl makes certificates.
type workshop struct {
	t   *testing.T
	dir string
}

func (w workshop) path(name string) string { return filepath.Join(w.dir, name) }

// openssl runs it with standard input closed, and returns what it says.
func (w workshop) openssl(args ...string) (string, error) {
	w.t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		need.Missing(w.t, "openssl is not installed")
	}
	ctx, stop := context.WithTimeout(w.t.Context(), time.Minute)
	defer stop()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = w.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (w workshop) must(args ...string) {
	w.t.Helper()
	if said, err := w.openssl(args...); err != nil {
		w.t.Fatalf("openssl %q: %v: %s", args, err, said)
	}
}

// issue has the CA by issue a certificate with a subject and extensions; no by: it signs
// itself. kind is the key's.
func (w workshop) issue(name, by, subject, kind, extensions string) {
	w.t.Helper()
	genkey := []string{"genpkey", "-algorithm", kind, "-out", name + ".key"}
	if kind == "EC" {
		genkey = append(genkey, "-pkeyopt", "ec_paramgen_curve:P-256")
	}
	w.must(genkey...)
	w.must("req", "-new", "-key", name+".key", "-subj", subject, "-out", name+".csr")
	if err := os.WriteFile(w.path(name+".ext"), []byte(extensions), 0o600); err != nil {
		w.t.Fatal(err)
	}
	signing := []string{"x509", "-req", "-in", name + ".csr", "-days", "30", "-extfile", name + ".ext", "-out", name + ".crt"}
	if by == "" {
		signing = append(signing, "-signkey", name+".key")
	} else {
		signing = append(signing, "-CA", by+".crt", "-CAkey", by+".key", "-CAcreateserial")
	}
	w.must(signing...)
}

func (w workshop) join(to string, names ...string) {
	w.t.Helper()
	var all []byte
	for _, name := range names {
		b, err := os.ReadFile(w.path(name))
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, b...)
	}
	if err := os.WriteFile(w.path(to), all, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

const (
	asCA   = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
	asHost = "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth,serverAuth\nsubjectAltName="
)

// TestOpenSSL has certificates that others make, the way cert-manager, step and SPIRE do, and
// openssl's client at the other end.
func TestOpenSSL(t *testing.T) {
	w := workshop{t, t.TempDir()}
	w.issue("root", "", "/O=Example/CN=Example root", "RSA", asCA)
	w.issue("mid", "root", "/O=Example/CN=Example issuing CA", "EC", asCA)
	w.issue("hub", "mid", "/CN=hub", "EC", asHost+"DNS:hub.example.com,IP:127.0.0.1\n")
	w.issue("web1", "mid", "/CN=old-name/OU=Web/OU=auditfleet:role=send,read", "EC", asHost+"DNS:WEB1.example.com,DNS:web1,DNS:*.web1.example.com\n")
	w.issue("db1", "mid", "/", "ED25519", asHost+"URI:spiffe://example.org/host/db1,DNS:other\n")
	w.issue("plain", "mid", "/CN=plain.example.com", "RSA", "basicConstraints=CA:FALSE\n")
	for _, name := range []string{"hub", "web1", "db1", "plain"} {
		w.join(name+"-chain.crt", name+".crt", "mid.crt")
	}
	trust := open(t, Config{CA: w.path("root.crt"), Cert: w.path("hub-chain.crt"), Key: w.path("hub.key"), Rules: Rules{SPIFFEPrefix: "spiffe://example.org/host/"}})
	for _, c := range []struct {
		args   []string
		want   string // who it is, with roles
		reason Reason
	}{
		{[]string{"-cert", "web1.crt", "-cert_chain", "mid.crt", "-key", "web1.key"}, "web1.example.com send,read", ""},
		{[]string{"-cert", "db1.crt", "-cert_chain", "mid.crt", "-key", "db1.key"}, "db1 send", ""},
		{[]string{"-cert", "plain.crt", "-cert_chain", "mid.crt", "-key", "plain.key"}, "", NoName},
		{[]string{"-cert", "web1.crt", "-key", "web1.key"}, "", UnknownCA},
		{nil, "", NoCertificate},
		{[]string{"-tls1_2", "-cert", "web1.crt", "-cert_chain", "mid.crt", "-key", "web1.key"}, "", OldProtocol},
		{[]string{"-tls1_1"}, "", OldProtocol},
	} {
		got, said := w.client(trust, c.args...)
		if c.reason == "" {
			if got != c.want {
				t.Errorf("%q: %s, want %s\n%s", c.args, got, c.want, said)
			}
		} else if !strings.HasPrefix(got, string(c.reason)+":") {
			t.Errorf("%q: %s, want %s\n%s", c.args, got, c.reason, said)
		}
	}
	// openssl takes the server for what it is, with a key exchange that it has.
	if _, said := w.client(trust, "-cert", "web1.crt", "-cert_chain", "mid.crt", "-key", "web1.key", "-CAfile", "root.crt", "-verify_return_error", "-verify_hostname", "hub.example.com"); !strings.Contains(said, "Verify return code: 0 (ok)") || !strings.Contains(said, "X25519") || !strings.Contains(said, "TLSv1.3") {
		t.Errorf("openssl says of the server:\n%s", said)
	}
	// And ours takes openssl's.
	client := open(t, Config{CA: w.path("root.crt"), Cert: w.path("web1-chain.crt"), Key: w.path("web1.key")})
	if client.Certificate().DNSNames[1] != "web1" {
		t.Errorf("%v", client.Certificate().DNSNames)
	}
}

// client has openssl's client connect, and returns who it is or why it was refused, and what
// openssl says.
func (w workshop) client(trust *Trust, args ...string) (got, said string) {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	defer l.Close()
	done := make(chan string, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			done <- err.Error()
			return
		}
		defer raw.Close()
		_ = raw.SetDeadline(time.Now().Add(time.Minute))
		conn := tls.Server(raw, trust.Server())
		err = conn.Handshake()
		var id Identity
		if err == nil {
			id, err = trust.Identify(conn.ConnectionState())
		}
		if err != nil {
			var r *Refusal
			if errors.As(trust.Explain(err), &r) {
				done <- fmt.Sprintf("%s: %s", r.Reason, r.Text)
				return
			}
			done <- err.Error()
			return
		}
		done <- id.Name + " " + id.Roles.String()
		_ = conn.Close()
	}()
	said, _ = w.openssl(append([]string{"s_client", "-connect", l.Addr().String(), "-servername", "hub.example.com"}, args...)...)
	return <-done, said
}
