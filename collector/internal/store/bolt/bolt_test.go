package bolt

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/order/ordertest"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
)

func TestMain(m *testing.M) {
	need.Parallel(6) // they wait for the disk
	storetest.Also = ordertest.Same
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.LockTimeout == 0 {
		o.LockTimeout = -1
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestContract(t *testing.T) {
	t.Parallel()
	env := storetest.Env{
		Open: func(t *testing.T) store.Store { return open(t, Options{Dir: t.TempDir()}) },
		Reopen: func(t *testing.T, s store.Store) store.Store {
			must(t, s.Close())
			return open(t, Options{Dir: s.(*Store).opts.Dir})
		},
	}
	storetest.Place(t, env)
	storetest.Events(t, env)
}

func TestContractReference(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compares the reference with itself")
	}
	env := storetest.Env{
		Open:   func(*testing.T) store.Store { return storetest.NewReference() },
		Reopen: func(_ *testing.T, s store.Store) store.Store { return s.(*storetest.Reference).Reopened() },
	}
	storetest.Place(t, env)
	storetest.Events(t, env)
}
