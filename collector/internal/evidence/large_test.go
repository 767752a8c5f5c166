package evidence

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// ofHosts makes a bundle of one event of each of many hosts with long names.
func ofHosts(t *testing.T, hosts int) (dir string, err error) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "b")
	folder, err := NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("h", store.MaxName-8)
	_, err = Make(t.Context(), Making{
		Query: &query.Query{}, About: Query{Store: seglog.ID{1}.String(), Words: []string{}, LastBatch: 1, Why: "no key"}, Send: folder.Take,
		Scan: func(_ context.Context, _ *query.Query, fn func(*event.Event) error) error {
			for i := range hosts {
				ev := &event.Event{}
				store.ParseInto(ev, []byte("type=USER msg=audit(1700000000.000:1): pid=1\n\n"), false, fmt.Appendf(nil, "%s%08d", long, i), store.Origin{})
				ev.Batch = 1
				if err := fn(ev); err != nil {
					return err
				}
			}
			return nil
		},
		Coverage: func(context.Context, []string, int64, int64) ([]byte, error) { return nil, nil },
	})
	if err != nil {
		return dir, err
	}
	return dir, folder.Finish()
}

// Whatever is made can be checked: a bundle of many hosts is, and one of more than that is not made.
func TestManyHosts(t *testing.T) {
	t.Parallel()
	hosts := need.Size(70_000, 1000) // 70,000 names are 18 MB
	dir, err := ofHosts(t, hosts)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := Verify(dir, nil)
	if rep == nil || len(rep.Query.Hosts) != hosts || errors.Is(err, ErrChanged) || errors.Is(err, ErrBundle) {
		t.Fatalf("%v", err)
	}
	if s, err := Look(dir); err != nil || len(s.Query.Hosts) != hosts {
		t.Errorf("%v", err)
	}
	k := &maker{hosts: map[string]bool{}}
	for i := 0; err == nil; i++ {
		err = k.addHost(fmt.Appendf(nil, "%0*d", store.MaxName, i))
	}
	if n := len(k.hosts); !errors.Is(err, ErrTooLarge) || n < 100_000 || n > maxQuery/store.MaxName {
		t.Errorf("%d hosts: %v", n, err)
	}
}
