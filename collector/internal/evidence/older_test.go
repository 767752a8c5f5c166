package evidence

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/checkpoint"
)

// A bundle of each version is checked for ever, and what is changed in it is found: of version 3, one from days that were compacted.
func TestOldVersions(t *testing.T) {
	t.Parallel()
	oldVersion(t, 1, 21, 0)
	oldVersion(t, 3, 16, 8)
}

func oldVersion(t *testing.T, version int, proved, compacted int64) {
	t.Helper()
	at := fmt.Sprintf("testdata/v%d", version)
	public, err := os.ReadFile(at + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := checkpoint.ReadVerifiers(string(public))
	if err != nil {
		t.Fatal(err)
	}
	rep, err := Verify(at, keys)
	if err != nil || rep.Query.Format != version || rep.Proved != proved || rep.Compacted != compacted || rep.Unproved != 0 || rep.SignedBy != "hub.example.net" || len(rep.Others) > 0 {
		t.Fatalf("%+v, %v", rep, err)
	}
	for _, name := range files(version) {
		dir := filepath.Join(t.TempDir(), "b")
		if err := os.CopyFS(dir, os.DirFS(at)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) == 0 {
			b = []byte{0}
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
