package authority

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/pki"
)

// TestCRL has openssl and our own Trust judge by the list that revoking writes.
func TestCRL(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022))
	dir, out := filepath.Join(t.TempDir(), "ca"), filepath.Join(t.TempDir(), "out")
	now := time.Now()
	ahead := time.Duration(0)
	cfg := Config{Dir: dir, Now: func() time.Time { return now.Add(ahead) }}
	ca, err := Init(t.Context(), cfg, "", tenYears)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"web1", "web2", "web3", "hub"} {
		if _, err := ca.Issue(t.Context(), request(name), out); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ca.CRL(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a list before anything asked for one: %v", err)
	}
	crl, caFile := filepath.Join(dir, CRLFile), filepath.Join(dir, CertFile)
	verify := func(name string, more ...string) string {
		t.Helper()
		said, _ := openssl(t, append(append([]string{"verify", "-x509_strict", "-crl_check", "-CAfile", caFile, "-CRLfile", crl}, more...), filepath.Join(out, name+".crt"))...)
		return said
	}
	revoke := func(name string) *CRL {
		t.Helper()
		if _, _, err := ca.Revoke(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		list, err := ca.CRL()
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	first := revoke("web1")
	for name, want := range map[string]string{"web1": "certificate revoked", "web2": "web2.crt: OK", "hub": "hub.crt: OK"} {
		if said := verify(name); !strings.Contains(said, want) {
			t.Errorf("%s: %s", name, said)
		}
	}
	second := revoke("web2")
	again := revoke("web2") // nothing new
	third, err := ca.WriteCRL(t.Context(), 30*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if first.Revoked != 1 || second.Revoked != 2 || second.Number.Cmp(first.Number) <= 0 || again.Number.Cmp(second.Number) != 0 || third.Number.Cmp(second.Number) <= 0 {
		t.Errorf("%+v, %+v, %+v, %+v", first, second, again, third)
	}
	if said, err := openssl(t, "crl", "-in", crl, "-CAfile", caFile, "-noout", "-crlnumber"); err != nil || !strings.Contains(said, "verify OK") {
		t.Errorf("%v: %s", err, said)
	}
	if info, err := os.Stat(crl); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v %v", info, err)
	}

	// When it is overdue, what is built on OpenSSL refuses everybody; ours refuses those on it.
	overdue := now.Add(31 * 24 * time.Hour)
	if said := verify("hub", "-attime", strconv.FormatInt(overdue.Unix(), 10)); !strings.Contains(said, "CRL has expired") {
		t.Errorf("overdue: %s", said)
	}
	ahead = 31 * 24 * time.Hour
	files := func(name string) pki.Config {
		return pki.Config{CA: caFile, Cert: filepath.Join(out, name+".crt"), Key: filepath.Join(out, name+".key"), CRL: crl, Now: cfg.Now}
	}
	hub, err := pki.Open(files("hub"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"web2": "", "web3": "web3"} {
		client, err := pki.Open(files(name))
		if err != nil {
			t.Fatal(err)
		}
		if id := shakeHands(t, hub, client.Client("hub")); id.Name != want {
			t.Errorf("%s is taken as %q", name, id.Name)
		}
	}
	// What has expired leaves the list in a while.
	ahead = 91 * 24 * time.Hour
	if list, err := ca.WriteCRL(t.Context(), CRLLife); err != nil || list.Revoked != 0 {
		t.Errorf("%+v %v", list, err)
	}
	// A list that is lost, and a clock that goes back, don't have a number come twice.
	if err := os.Remove(crl); err != nil {
		t.Fatal(err)
	}
	fourth, err := ca.WriteCRL(t.Context(), CRLLife)
	if err != nil {
		t.Fatal(err)
	}
	ahead = 0
	if fifth, err := ca.WriteCRL(t.Context(), CRLLife); err != nil || fourth.Number.Cmp(third.Number) <= 0 || fifth.Number.Cmp(fourth.Number) <= 0 {
		t.Errorf("%+v, %+v %v", fourth, fifth, err)
	}
}

// TestCRLThatCannotBeWritten leaves a certificate revoked for those who read the deny list,
// and says so; the next try writes the list.
func TestCRLThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, fsys.OS, dir)
	cert, err := ca.Issue(t.Context(), request("web1"), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	key, crl := filepath.Join(dir, KeyFile), filepath.Join(dir, CRLFile)
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	list, fresh, err := ca.Revoke(t.Context(), "web1")
	if !errors.Is(err, ErrCRL) || len(list) != 1 || fresh != 1 {
		t.Errorf("%v %d %v", list, fresh, err)
	}
	if deny, err := os.ReadFile(ca.Deny()); err != nil || !strings.Contains(string(deny), pki.Serial(cert.SerialNumber)) {
		t.Errorf("%v: %s", err, deny)
	}
	if err := os.Rename(key+".away", key); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"somebody's\n", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", ""} {
		if err := os.WriteFile(crl, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ca.Revoke(t.Context(), "web1"); !errors.Is(err, ErrCRL) || !strings.Contains(err.Error(), "never overwritten") {
			t.Errorf("over %q: %v", text, err)
		}
	}
	other := newAuthority(t, fsys.OS, t.TempDir())
	if _, err := other.WriteCRL(t.Context(), CRLLife); err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(other.cfg.path(CRLFile))
	if err == nil {
		err = os.WriteFile(crl, foreign, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ca.Revoke(t.Context(), "web1"); !errors.Is(err, ErrCRL) || !strings.Contains(err.Error(), "not signed by this CA") {
		t.Errorf("over another CA's: %v", err)
	}
	if err := os.Remove(crl); err != nil {
		t.Fatal(err)
	}
	if _, fresh, err := ca.Revoke(t.Context(), "web1"); err != nil || fresh != 0 {
		t.Error(err)
	}
	if got, err := ca.CRL(); err != nil || got.Revoked != 1 {
		t.Errorf("%+v %v", got, err)
	}
}
