package clickhouse

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bases numbers the databases of a process's tests.
var bases atomic.Uint64

// address makes the address of a new database in a cluster.
func address(t testing.TB, c *cluster.Cluster) *Address {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	must(t, os.WriteFile(file, []byte(cluster.Password+"\n"), 0o600))
	text := fmt.Sprintf("%s%s/t%d?user=%s&password_file=%s&shards=%d", Scheme, strings.Join(c.Addrs(), ","), bases.Add(1), cluster.User, file, c.Shape.Shards)
	a, err := Parse(text)
	must(t, err)
	return a
}

// place is a place with an engine, which remembers how to open both again.
type place struct {
	*bolt.Outbox
	dir     string
	address *Address
}

func open(t testing.TB, dir string, a *Address) place {
	t.Helper()
	local, err := bolt.Open(bolt.Options{Dir: dir, LockTimeout: -1})
	must(t, err)
	e, err := Open(Options{Address: a, Store: local.ID().String()})
	must(t, err)
	p := place{bolt.NewOutbox(local, e), dir, a}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// env opens places in a cluster, each with a database of its own.
func env(c *cluster.Cluster) storetest.Env {
	return storetest.Env{
		Open: func(t *testing.T) store.Store { return open(t, t.TempDir(), address(t, c)) },
		Reopen: func(t *testing.T, s store.Store) store.Store {
			p := s.(place)
			must(t, p.Close())
			return open(t, p.dir, p.address)
		},
	}
}

// The contract holds for a place whose events a cluster has: of one server, and of two shards.
func TestContract(t *testing.T) {
	for _, shape := range []cluster.Shape{{}, {Shards: 2}} {
		t.Run(fmt.Sprintf("%d shards", max(1, shape.Shards)), func(t *testing.T) {
			c := cluster.Start(t, shape)
			storetest.Place(t, env(c))
			storetest.Events(t, env(c))
		})
	}
}
