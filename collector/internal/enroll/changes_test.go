package enroll

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/pki/authority"
)

// watching looks as Watch does, and returns what it tells.
func watching(f *fixture, file string) (w *watch, told *[]string) {
	told = new([]string)
	f.seen = seen{}
	f.Report = func(ev Event) { *told = append(*told, ev.Op+" "+ev.Host) }
	w = &watch{Server: f.Server, file: file, pending: map[string]bool{}}
	w.read()
	return w, told
}

// What commands do is told once, at the second look, over restarts; what this process does
// itself is not told of its files, too; a file that can't be read costs a second telling.
func TestWatch(t *testing.T) {
	f := newFixture(t)
	file := filepath.Join(t.TempDir(), SeenFile)
	w, told := watching(f, file)
	looks := func(want ...string) {
		t.Helper()
		w.look()
		w.look()
		w.keep()
		if got := *told; !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		*told = nil
	}
	looks("issue-certificate hub", "issue-certificate web1")
	looks()
	f.token(t, "web2")
	w.look()
	if len(*told) > 0 {
		t.Errorf("told at once: %q", *told)
	}
	looks("create-token web2")
	cert, err := f.CA.Issue(t.Context(), authority.Request{Name: "own", Roles: pki.Send, Life: time.Hour}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w.look()
	f.seen.add("certificate " + pki.Serial(cert.SerialNumber)) // by report
	looks()
	if _, _, err := f.CA.Revoke(t.Context(), "own"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.CA.RevokeToken(t.Context(), "web2"); err != nil {
		t.Fatal(err)
	}
	looks("revoke-token web2", "revoke-certificate own")

	w, told = watching(f, file)
	f.token(t, "web3")
	looks("create-token web3")
	if err := os.WriteFile(file, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	w, told = watching(f, file)
	w.look()
	w.look()
	if len(*told) != 7 || !strings.Contains(f.said.String(), "recorded again") {
		t.Errorf("%q", *told)
	}

	// Damage of the CA is said once, and tells nothing.
	*told = nil
	if err := os.WriteFile(filepath.Join(f.dir, "ca", authority.IndexFile), []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.look()
	}
	if len(*told) > 0 || strings.Count(f.said.String(), "is not on record") != 1 {
		t.Errorf("%q\n%s", *told, f.said.String())
	}
}

// Many changes at once are told bit by bit, and none is missing.
func TestWatchMany(t *testing.T) {
	f := newFixture(t)
	w, told := watching(f, filepath.Join(t.TempDir(), SeenFile))
	for range mostALook + 10 {
		f.token(t, "web2")
	}
	w.look()
	w.look()
	if len(*told) != mostALook {
		t.Errorf("%d at once", len(*told))
	}
	for range 3 {
		w.look()
	}
	if len(*told) != mostALook+12 {
		t.Errorf("%d in all", len(*told))
	}
}
