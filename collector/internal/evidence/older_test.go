package evidence

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/checkpoint"
)

// A bundle of version 1 is checked for ever, and what is changed in it is found.
func TestVersion1(t *testing.T) {
	t.Parallel()
	public, err := os.ReadFile("testdata/v1.pub")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := checkpoint.ReadVerifiers(string(public))
	if err != nil {
		t.Fatal(err)
	}
	rep, err := Verify("testdata/v1", keys)
	if err != nil || rep.Proved != 21 || rep.Unproved != 0 || rep.SignedBy != "hub.example.net" || len(rep.Others) > 0 {
		t.Fatalf("%+v, %v", rep, err)
	}
	for _, name := range files(1) {
		dir := filepath.Join(t.TempDir(), "b")
		if err := os.CopyFS(dir, os.DirFS("testdata/v1")); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(dir, keys); !errors.Is(err, ErrChanged) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
}

// One of a version to come is not taken for a changed one.
func TestNewer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, Manifest), []byte(strings.Replace(manifestText(plainFormat, "x", nil), "evidence 2", "evidence 4", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(dir, nil); !errors.Is(err, ErrBundle) || errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), "a newer collector") {
		t.Error(err)
	}
}
