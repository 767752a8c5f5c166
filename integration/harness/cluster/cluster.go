// Package cluster starts a real ClickHouse cluster for tests and benchmarks: ZooKeepers, and shards × replicas of
// clickhouse-server, as Debian packages them. Each server has a loopback address of its own (127.A.B.N) and the ports
// that the packages use, so any number of clusters stand side by side, and "is that me?", which servers ask of an
// address, has the answer it has on machines of their own. Servers can be killed, stopped, frozen, started again, wiped
// and have their disk filled. Only tests and benchmarks import the package; it imports the harness, which starts and
// ends the programs.
package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/internal/testca"
)

// The names that every server's configuration has.
const (
	Name     = "fleet" // of the cluster, in remote_servers
	User     = "audit" // may do all
	Password = "of the audit's tests"
	Reader   = "reader" // may only read, with the same password
)

// patience is how long a server may take to start, to answer a question of the tests, or to end in good order.
const patience = 2 * time.Minute

// Shape is what a cluster consists of. A number that is 0 is 1.
type Shape struct {
	Shards, Replicas, Keepers int

	// CA makes servers listen by TLS, too (Node.Secure), with certificates that it signs for their addresses.
	CA *testca.CA
	// DiskMiB puts the data of each ClickHouse server on a tmpfs of that size, which FillDisk can fill. 0: in a folder.
	DiskMiB int
	// Settings are those of the servers' default profile, added to the harness's own or in their place.
	Settings map[string]string
	// MergeTree are settings of all tables of the MergeTree family.
	MergeTree map[string]string
}

// Cluster is a running cluster. Its nodes and keepers stay the same when they are killed and started again.
type Cluster struct {
	Dir     string // below it each server has a folder
	Shape   Shape
	Nodes   []*Node // those of the first shard first
	Keepers []*Keeper

	prefix string // of addresses: 127.A.B.
}

// Need skips a test where no cluster can be started, and says what is missing.
func Need(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a ClickHouse cluster")
	}
	need.Root(t) // its servers are of one user, and disks are mounted
	var missing []string
	if _, err := exec.LookPath("clickhouse-server"); err != nil {
		missing = append(missing, "clickhouse-server")
	}
	if _, err := exec.LookPath("java"); err != nil {
		missing = append(missing, "java")
	}
	if _, err := os.Stat(zookeeperJar); err != nil {
		missing = append(missing, zookeeperJar)
	}
	if len(missing) > 0 {
		need.Missing(t, fmt.Sprintf("there is no %s: apt-get install --no-install-recommends clickhouse-server zookeeper", strings.Join(missing, ", no ")))
	}
}

// Start starts a cluster for a test, which ends with it. It skips the test where none can be started.
func Start(t testing.TB, s Shape) *Cluster {
	t.Helper()
	Need(t)
	c, err := New(t.TempDir(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range c.Nodes {
				t.Logf("%s:\n%s", n.Name, n.Log())
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// New starts a cluster with its files below dir, and returns when every server answers.
func New(dir string, s Shape) (_ *Cluster, err error) {
	for _, n := range []*int{&s.Shards, &s.Replicas, &s.Keepers} {
		*n = max(*n, 1)
	}
	c := &Cluster{Dir: dir, Shape: s}
	if c.prefix, err = freePrefix(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	for i := range s.Keepers {
		c.Keepers = append(c.Keepers, c.newKeeper(i+1))
	}
	for shard := range s.Shards {
		for replica := range s.Replicas {
			c.Nodes = append(c.Nodes, c.newNode(shard+1, replica+1))
		}
	}
	for _, k := range c.Keepers {
		if err := k.prepare(); err != nil {
			return nil, err
		}
	}
	for _, n := range c.Nodes {
		if err := n.prepare(); err != nil {
			return nil, err
		}
	}
	if err := atOnce(c.Keepers, (*Keeper).Start); err != nil {
		return nil, err
	}
	return c, atOnce(c.Nodes, (*Node).Start) // a server ends when it finds no ZooKeeper
}

// Close ends all servers at once and unmounts their disks. It may be called again.
func (c *Cluster) Close() error {
	for _, n := range c.Nodes {
		n.Kill()
	}
	for _, k := range c.Keepers {
		k.Kill()
	}
	var all []error
	for _, n := range c.Nodes {
		all = append(all, n.unmount())
	}
	return errors.Join(all...)
}

// Addrs are the addresses of the native protocol in clear text, HOST:PORT, those of the first shard first.
func (c *Cluster) Addrs() []string {
	var addrs []string
	for _, n := range c.Nodes {
		addrs = append(addrs, n.Native)
	}
	return addrs
}

// SecureAddrs are those of the native protocol over TLS.
func (c *Cluster) SecureAddrs() []string {
	var addrs []string
	for _, n := range c.Nodes {
		addrs = append(addrs, n.Secure)
	}
	return addrs
}

// Shard are the replicas of a shard, which counts from 1.
func (c *Cluster) Shard(shard int) []*Node {
	return c.Nodes[(shard-1)*c.Shape.Replicas : shard*c.Shape.Replicas]
}

// freePrefix returns a 127.A.B. on which nothing listens on the ports of ClickHouse and ZooKeeper.
func freePrefix() (string, error) {
	var failed error
	for range 100 {
		prefix := fmt.Sprintf("127.%d.%d.", 1+rand.IntN(254), rand.IntN(256))
		failed = nil
		for _, port := range []int{nativePort, clientPort} {
			l, err := net.Listen("tcp", net.JoinHostPort(prefix+"1", strconv.Itoa(port)))
			if err != nil {
				failed = err
				break
			}
			l.Close()
		}
		if failed == nil {
			return prefix, nil
		}
	}
	return "", fmt.Errorf("no loopback address on which ClickHouse could listen: %w", failed)
}

// atOnce does the same with all, and returns when all is done.
func atOnce[T any](all []T, do func(T) error) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, one := range all {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = do(one)
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

// folder makes one of a server's folders.
func folder(parts ...string) (string, error) {
	dir := filepath.Join(parts...)
	return dir, os.MkdirAll(dir, 0o700)
}
