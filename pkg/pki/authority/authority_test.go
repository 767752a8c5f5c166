package authority

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
	"github.com/auditfleet/auditfleet/pkg/pki"
)

// openssl runs the real one, and returns what it says.
func openssl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		need.Missing(t, "openssl is not installed")
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	return string(out), err
}

// TestIssued has openssl judge what is issued, and both ends of TLS use it.
func TestIssued(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022))
	dir, out := filepath.Join(t.TempDir(), "new", "ca"), filepath.Join(t.TempDir(), "out")
	now := time.Now()
	cfg := Config{Dir: dir}
	if _, err := Init(t.Context(), cfg, "Example audit CA", tenYears); err != nil {
		t.Fatal(err)
	}
	ca, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := Request{Name: "Web1.example.com", DNS: []string{"web1"}, IP: []string{"127.0.0.1", "2001:db8::1"}, Roles: pki.Send | pki.Read, Life: ninety}
	cert, err := ca.Issue(t.Context(), r, out)
	if err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{
		dir: 0o700, filepath.Join(dir, "ca.key"): 0o600, filepath.Join(dir, "index"): 0o600,
		out: 0o700, filepath.Join(out, "web1.example.com.key"): 0o600, filepath.Join(out, "web1.example.com.crt"): 0o644, filepath.Join(out, "ca.crt"): 0o644,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	caFile, certFile, keyFile := filepath.Join(out, "ca.crt"), filepath.Join(out, "web1.example.com.crt"), filepath.Join(out, "web1.example.com.key")
	for _, purpose := range []string{"sslclient", "sslserver"} {
		if said, err := openssl(t, "verify", "-x509_strict", "-purpose", purpose, "-CAfile", caFile, certFile); err != nil {
			t.Errorf("%s: %v: %s", purpose, err, said)
		}
	}
	said, err := openssl(t, "x509", "-in", certFile, "-noout", "-text")
	for _, want := range []string{
		"Issuer: CN = Example audit CA", "DNS:web1.example.com, DNS:web1, IP Address:127.0.0.1, IP Address:2001:DB8:0:0:0:0:0:1", "OU = \"auditfleet:role=send,read\"",
		"prime256v1", "CA:FALSE", "TLS Web Client Authentication, TLS Web Server Authentication",
	} {
		if err != nil || !strings.Contains(said, want) {
			t.Errorf("%v: no %q in %s", err, want, said)
		}
	}
	if said, err := openssl(t, "x509", "-in", caFile, "-noout", "-text"); err != nil || !strings.Contains(said, "CA:TRUE, pathlen:0") {
		t.Errorf("%v: %s", err, said)
	}
	if life := cert.NotAfter.Sub(now); life < ninety-time.Minute || life > ninety+time.Minute || now.Sub(cert.NotBefore) < skew-time.Second {
		t.Errorf("from %s to %s", cert.NotBefore, cert.NotAfter)
	}
	trust, err := pki.Open(pki.Config{CA: caFile, Cert: certFile, Key: keyFile, Deny: ca.Deny()})
	if err != nil {
		t.Fatal(err)
	}
	if id := shakeHands(t, trust, trust.Client("127.0.0.1")); id.Name != "web1.example.com" || id.Roles != pki.Send|pki.Read {
		t.Errorf("%+v", id)
	}

	list, fresh, err := ca.Revoke(t.Context(), "WEB1.example.com")
	if err != nil || fresh != 1 || len(list) != 1 || list[0].Serial != pki.Serial(cert.SerialNumber) {
		t.Fatalf("%+v, %d, %v", list, fresh, err)
	}
	if err := trust.Reload(); err != nil {
		t.Fatal(err)
	}
	if id := shakeHands(t, trust, trust.Client("127.0.0.1")); id.Name != "" {
		t.Errorf("%s is revoked, and taken", id)
	}
}

// shakeHands returns who the server says the client is; nobody where it refuses.
func shakeHands(t *testing.T, server *pki.Trust, client *tls.Config) pki.Identity {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", server.Server())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if c, err := tls.Dial("tcp", l.Addr().String(), client); err == nil {
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
	})
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.(*tls.Conn).Handshake(); err != nil {
		return pki.Identity{}
	}
	id, err := server.Identify(c.(*tls.Conn).ConnectionState())
	if err != nil {
		t.Error(err)
	}
	return id
}

// TestRefusedRequests has what must not be issued.
func TestRefusedRequests(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, fsys.OS, dir)
	out := filepath.Join(t.TempDir(), "out")
	for _, c := range []struct {
		change func(r *Request)
		want   string
	}{
		{func(r *Request) { r.Name = "" }, "empty"},
		{func(r *Request) { r.Name = "../web1" }, "empty part"},
		{func(r *Request) { r.Name = "a/b" }, `'/'`},
		{func(r *Request) { r.Name = "*.example.com" }, "wildcard"},
		{func(r *Request) { r.Name = "-rf" }, "begins or ends"},
		{func(r *Request) { r.Name = "10.0.0.1" }, "is an address"},
		{func(r *Request) { r.Name = strings.Repeat("a.", 130) }, "are the most"},
		{func(r *Request) { r.Name = "CA" }, "is taken"},
		{func(r *Request) { r.DNS = []string{"*.example.com"} }, "wildcard"},
		{func(r *Request) { r.IP = []string{"web1"} }, "is no address"},
		{func(r *Request) { r.IP = []string{"0.0.0.0"} }, "is no address"},
		{func(r *Request) { r.IP = make([]string, 65) }, "more than 64"},
		{func(r *Request) { r.Roles = 0 }, "without a role"},
		{func(r *Request) { r.Life = time.Second }, "too short"},
	} {
		r := request("web1")
		c.change(&r)
		if _, err := ca.Issue(t.Context(), r, out); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", r, err, c.want)
		}
	}
	for what, c := range map[string]struct {
		now  time.Time
		want string
	}{
		"before the CA": {noon.Add(-24 * time.Hour), "set the clock"},
		"after the CA":  {noon.AddDate(20, 0, 0), "expired at 2036"},
	} {
		late, err := Open(Config{Dir: dir, Now: at(c.now)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := late.Issue(t.Context(), request("web1"), out); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if list, err := ca.List(); err != nil || len(list) != 0 {
		t.Errorf("listed: %v, %v", list, err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("the folder was made for nothing")
	}
	// No certificate outlives its CA.
	end, err := Open(Config{Dir: dir, Now: at(ca.cert.NotAfter.Add(-time.Hour))})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := end.Issue(t.Context(), request("web1"), out); err != nil || !c.NotAfter.Equal(ca.cert.NotAfter) {
		t.Errorf("%v, %v", c, err)
	}
}

// TestNothingIsOverwritten issues into folders that have files.
func TestNothingIsOverwritten(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	ca := newAuthority(t, fsys.OS, dir)
	if _, err := ca.Issue(t.Context(), request("web1"), out); err != nil {
		t.Fatal(err)
	}
	before := content(t, out)
	wrong := func(what string, err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	_, err := ca.Issue(t.Context(), request("web1"), out)
	wrong("the same name", err, "web1.key is there already, and is never overwritten")
	_, err = newAuthority(t, fsys.OS, t.TempDir()).Issue(t.Context(), request("web2"), out)
	wrong("another CA", err, "is there already with other CAs")
	if _, err := ca.Issue(t.Context(), request("web2"), out); err != nil {
		t.Error(err)
	}
	for name, data := range before {
		if now := content(t, out)[name]; now != data {
			t.Errorf("%s has changed", name)
		}
	}
	_, err = Init(t.Context(), Config{Dir: dir}, "", tenYears)
	wrong("a second CA", err, "there is a CA here already")
	if err := os.Remove(filepath.Join(dir, CertFile)); err != nil {
		t.Fatal(err)
	}
	_, err = Init(t.Context(), Config{Dir: dir}, "", tenYears)
	wrong("a CA that lost its certificate", err, "there is an index here")
	_, err = Open(Config{Dir: dir})
	wrong("no CA", err, "collector ca init")
	dir = t.TempDir()
	ca = newAuthority(t, fsys.OS, dir)
	if err := os.Chmod(filepath.Join(dir, KeyFile), 0o640); err != nil {
		t.Fatal(err)
	}
	_, err = ca.Issue(t.Context(), request("web9"), out)
	wrong("a key for the group", err, "its mode is 0640: others may read the CA's key: chmod 0600")
	link := filepath.Join(out, "web9.key")
	if err := errors.Join(os.Chmod(filepath.Join(dir, KeyFile), 0o600), os.Remove(filepath.Join(out, "ca.crt")), os.Symlink("/nowhere", link)); err != nil {
		t.Fatal(err)
	}
	if _, err = ca.Issue(t.Context(), request("web9"), out); err == nil {
		t.Error("written through a link")
	}
}

func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(b)
	}
	return all
}

// TestTogether issues and revokes from many at once: everything is listed.
func TestTogether(t *testing.T) {
	dir := t.TempDir()
	newAuthority(t, fsys.OS, dir)
	const hands, each = 4, 5
	var wg sync.WaitGroup
	for h := range hands {
		wg.Go(func() {
			ca, err := Open(Config{Dir: dir, Now: at(noon)})
			if err != nil {
				t.Error(err)
				return
			}
			for n := range each {
				name := "host-" + string(rune('a'+h)) + string(rune('a'+n))
				if _, err := ca.Issue(t.Context(), request(name), filepath.Join(dir, "out")); err != nil {
					t.Error(err)
				}
				if _, fresh, err := ca.Revoke(t.Context(), name); err != nil || fresh != 1 {
					t.Error(fresh, err)
				}
			}
		})
	}
	wg.Wait()
	ca, err := Open(Config{Dir: dir, Now: at(noon)})
	if err != nil {
		t.Fatal(err)
	}
	list, err := ca.List()
	if err != nil || len(list) != hands*each {
		t.Fatalf("%d, %v", len(list), err)
	}
	deny, err := os.ReadFile(ca.Deny())
	for _, e := range list {
		if err != nil || e.Revoked.IsZero() || bytes.Count(deny, []byte(e.Serial)) != 1 {
			t.Errorf("%+v: %v", e, err)
		}
	}
	if _, fresh, err := ca.Revoke(t.Context(), list[0].Serial); fresh != 0 || err != nil {
		t.Error("revoked again:", fresh, err)
	}
	if _, _, err := ca.Revoke(t.Context(), "zz"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

// TestDenyListKeepsWhatOthersWrote has an administrator's own lines in it.
func TestDenyListKeepsWhatOthersWrote(t *testing.T) {
	ca := newAuthority(t, fsys.OS, t.TempDir())
	if err := os.WriteFile(ca.Deny(), []byte("lab* # ours\nlast"), 0o644); err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(t.Context(), request("web1"), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ca.Revoke(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
	want := "lab* # ours\nlast\n" + pki.Serial(cert.SerialNumber) + " # web1, revoked 2026-11-29T12:00:00Z\n"
	if got, err := os.ReadFile(ca.Deny()); err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
}

// TestPowerCuts cuts the power at every step of making a CA, issuing and revoking: what can
// be read is whole, no certificate is out that is not listed, and everything can be done
// after it.
func TestPowerCuts(t *testing.T) {
	seed := int64(need.Seed(t))
	for step := 1; ; step++ {
		f := faultfs.New(seed + int64(step))
		f.CutPower(step)
		cfg := Config{Dir: "/ca", FS: f, Now: at(noon)}
		ca, err := Init(t.Context(), cfg, "", tenYears)
		if err == nil {
			_, err = ca.Issue(t.Context(), request("web1"), "/out")
		}
		if err == nil {
			_, _, err = ca.Revoke(t.Context(), "web1")
		}
		if err == nil {
			if step < 20 {
				t.Fatalf("only %d steps", step)
			}
			return
		}
		f.Crash()
		ca, err = Open(cfg)
		if err != nil {
			if ca, err = Init(t.Context(), cfg, "", tenYears); err != nil {
				t.Fatalf("step %d: init again: %v", step, err)
			}
		}
		list, err := ca.List()
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		if data, err := readFile(f, "/out/web1.crt"); err == nil && len(data) > 0 {
			certs, err := pki.ParseCertificates("web1.crt", data)
			if err != nil || len(list) != 1 || list[0].Fingerprint != pki.Fingerprint(certs[0]) {
				t.Fatalf("step %d: %v is out, listed are %v", step, err, list)
			}
		}
		if data, err := readFile(f, "/out/web1.key"); err == nil && len(data) > 0 {
			if _, err := pki.ParseKey("web1.key", data); err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
		}
		if _, err := ca.Issue(t.Context(), request("web2"), "/out2"); err != nil {
			t.Fatalf("step %d: issue after it: %v", step, err)
		}
		if _, fresh, err := ca.Revoke(t.Context(), "web2"); err != nil || fresh != 1 {
			t.Fatalf("step %d: revoke after it: %v", step, err)
		}
	}
}

// TestFullDisk leaves everything as it was.
func TestFullDisk(t *testing.T) {
	for _, op := range []faultfs.Op{faultfs.Write, faultfs.Sync, faultfs.Rename} {
		for n := 1; ; n++ {
			f := faultfs.New(1)
			ca := newAuthority(t, f, "/ca")
			f.Fail(op, n, unix.ENOSPC)
			_, err := ca.Issue(t.Context(), request("web1"), "/out")
			if err == nil {
				break
			}
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("%s %d: %v", op, n, err)
			}
			f.Heal()
			if _, err := ca.Issue(t.Context(), request("web1"), "/out"); err != nil {
				t.Errorf("%s %d: with room again: %v", op, n, err)
			}
			if f.OpenFiles() != 0 {
				t.Errorf("%s %d: %d files are open", op, n, f.OpenFiles())
			}
		}
	}
}

// A folder that another user may change, or has put in the place of ours, is no CA: whoever
// uses it would sign with a key of that user's.
func TestFolderOfOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	if _, err := Init(t.Context(), Config{Dir: dir}, "", 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	var unsafe *fsys.UnsafeError
	if _, err := Open(Config{Dir: dir}); !errors.As(err, &unsafe) {
		t.Errorf("a folder that everybody may write: %v", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Config{Dir: dir}); !errors.As(err, &unsafe) {
			t.Errorf("another user's folder: %v", err)
		}
	}
}
