package journal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/internal/need"
)

// Nothing is acknowledged that goes to a journal that was deleted, also not to one made
// anew in a store that is gone.
func TestFolderDeleted(t *testing.T) {
	t.Parallel()
	var log need.Buffer
	dir := filepath.Join(t.TempDir(), "store", "journal")
	j, _, err := Open(Options{Dir: dir, Logger: hclog.New(&hclog.LoggerOptions{Output: &log})})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.Start(Resume{}, func(*Batch) error { return nil }); err != nil {
		t.Fatal(err)
	}
	next := uint32(0)
	send := func() error {
		next++
		return put(t, j, &Batch{Conn: 1, Sender: from(addr(1)), Managed: true, Received: time.Unix(1, 0), Records: []Record{own(next, "a record")}})
	}
	if err := send(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
		t.Fatal(err)
	}
	for _, wait := range []time.Duration{0, 0, retryEvery + 100*time.Millisecond} {
		time.Sleep(wait)
		if err := send(); !errors.Is(err, ErrFailed) {
			t.Errorf("after %v: %v", wait, err)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the folder was made anew")
	}
	if !strings.Contains(log.String(), "nothing is acknowledged") {
		t.Errorf("said: %s", &log)
	}
}
