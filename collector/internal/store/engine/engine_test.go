package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

const cluster = "clickhouse://127.0.0.1:1/audit?user=u" // nobody is there

func open(t *testing.T, o Options, want string) {
	t.Helper()
	s, err := Open(o)
	switch {
	case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%+v: %v; want %q", o, err, want)
	}
	if err == nil {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A folder remembers that its events are in a cluster, and in which: nobody takes it for one without events, nor goes on with another.
func TestElsewhere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "place")
	open(t, Options{Dir: dir, Cluster: cluster}, "")
	if at, err := Elsewhere(dir); at != cluster || err != nil {
		t.Errorf("the events are in %q, %v", at, err)
	}
	if err := InFolder(dir, "do that"); !errors.Is(err, ErrElsewhere) || !strings.Contains(err.Error(), "127.0.0.1:1/audit: do that") {
		t.Errorf("files of events are there: %v", err)
	}
	open(t, Options{Dir: dir}, "")
	open(t, Options{Dir: dir, ReadOnly: true}, "")
	open(t, Options{Dir: dir, Cluster: strings.Replace(cluster, "/audit", "/other", 1)}, "/audit")
	more := strings.Replace(cluster, ":1/", ":1,127.0.0.1:2/", 1)
	open(t, Options{Dir: dir, Cluster: more}, "") // another server of it
	if at, err := Elsewhere(dir); at != more || err != nil {
		t.Errorf("the events are in %q, %v", at, err)
	}
	file := filepath.Join(dir, fileName)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(b, 'x'), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Elsewhere(dir); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("a damaged file: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	open(t, Options{Dir: dir}, "name it again")
	open(t, Options{Dir: dir, Cluster: more}, "")
}

// A store with events of its own stays what it is.
func TestOwnEvents(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Append(context.Background(), &store.Batch{ID: 1, LSN: 1}), s.Close()); err != nil {
		t.Fatal(err)
	}
	open(t, Options{Dir: dir, Cluster: cluster}, "events of its own")
	if err := InFolder(dir, "x"); err != nil {
		t.Errorf("its events are not there: %v", err)
	}
	open(t, Options{Dir: dir}, "")
}
