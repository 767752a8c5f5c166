package clickhouse

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
)

// hungCluster is two servers of one shard, of which the first hangs while hung says so.
type hungCluster struct {
	*servers
	hung   atomic.Bool
	probes atomic.Int32
}

func newHungCluster(t *testing.T) *hungCluster {
	c := &hungCluster{servers: &servers{nodes: []*node{{addr: "a"}, {addr: "b"}}, begun: time.Now()}}
	c.ctx, c.end = context.WithCancel(context.Background())
	t.Cleanup(func() { c.end(); c.meets.Wait() })
	c.probe = func(ctx context.Context, n *node) error {
		c.probes.Add(1)
		return c.ask(ctx, n)
	}
	return c
}

// ask is answered at once, or while the server hangs not before ctx ends, or silentTime.
func (c *hungCluster) ask(ctx context.Context, n *node) error {
	if n.addr != "a" || !c.hung.Load() {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(silentTime):
		return io.ErrUnexpectedEOF
	}
}

// insert asks the shard's servers, and says which were asked and how long it took.
func (c *hungCluster) insert(t *testing.T) (asked string, took time.Duration) {
	begin := time.Now()
	err := c.on(t.Context(), c.nodes, storing, func(ctx context.Context, n *node) error {
		asked += n.addr
		return c.ask(ctx, n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return asked, time.Since(begin)
}

// A server that hangs is waited for once, however long it hangs, and is the first again when it answers.
func TestHungServerIsLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newHungCluster(t)
		if asked, _ := c.insert(t); asked != "a" {
			t.Errorf("asked %s of a cluster that is well", asked)
		}
		c.hung.Store(true)
		if asked, took := c.insert(t); asked != "ab" || took != silentTime {
			t.Errorf("asked %s in %v when it began to hang", asked, took)
		}
		for range 100 {
			time.Sleep(7 * time.Second)
			if asked, took := c.insert(t); asked != "b" || took != 0 {
				t.Fatalf("asked %s in %v while one hangs", asked, took)
			}
		}
		if n := c.probes.Load(); n < 20 || n > 60 {
			t.Errorf("the server that hangs was asked whether it answers %d times in 700 s", n)
		}
		c.hung.Store(false)
		time.Sleep(lookTime + probeTime)
		if asked, _ := c.insert(t); asked != "a" {
			t.Errorf("asked %s once it answers", asked)
		}
		synctest.Wait()
		if n := c.probes.Load(); c.nodes[0].health[storing].probing {
			t.Errorf("it is asked on, %d times", n)
		}
	})
}

// Where all hang or fail, each is asked; one that comes back need not be waited for.
func TestAllServersFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newHungCluster(t)
		var down atomic.Bool
		down.Store(true)
		c.probe = func(context.Context, *node) error {
			if down.Load() {
				return io.EOF
			}
			return nil
		}
		var asked []string
		do := func(_ context.Context, n *node) error {
			asked = append(asked, n.addr)
			if down.Load() {
				return io.EOF
			}
			return nil
		}
		if err := c.on(t.Context(), c.nodes, storing, do); !errors.Is(err, ErrCluster) {
			t.Fatal(err)
		}
		if !slices.Contains(asked, "a") || !slices.Contains(asked, "b") || len(asked) != 2*rounds {
			t.Errorf("asked %v", asked)
		}
		down.Store(false)
		asked = nil
		if err := c.on(t.Context(), c.nodes, storing, do); err != nil || len(asked) != 1 {
			t.Errorf("asked %v: %v", asked, err)
		}
		time.Sleep(restTime + probeTime + time.Second)
		synctest.Wait()
		for _, n := range c.nodes {
			if n.health[storing].last() != 0 || n.health[storing].probing {
				t.Errorf("%s answers again, and has failed for all that", n.addr)
			}
		}
	})
}

// What is no fault of the server does not put it last: who asked goes away, it does not lead, or the question is a wrong one.
func TestNoFaultOfServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newHungCluster(t)
		ctx, cancel := context.WithCancel(t.Context())
		for _, err := range []error{errFollows, errors.New("a wrong question")} {
			_ = c.on(ctx, c.nodes[:1], storing, func(context.Context, *node) error { return err })
		}
		_ = c.on(ctx, c.nodes, storing, func(context.Context, *node) error { cancel(); return context.Canceled })
		var order []string
		for _, n := range byHealth(c.nodes, storing) {
			order = append(order, n.addr)
		}
		if strings.Join(order, "") != "ab" || c.nodes[0].health[storing].last() != 0 || c.nodes[0].health[storing].probing {
			t.Errorf("the order is %v", order)
		}
	})
}

// A server that says that it is there, and stores nothing, is waited for ever less often; what it answers is asked of it all the same.
func TestAnswersAndStoresNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newHungCluster(t)
		c.probe = func(context.Context, *node) error { return nil }
		c.hung.Store(true)
		waited := 0
		begin := time.Now()
		for time.Since(begin) < time.Hour {
			if _, took := c.insert(t); took > 0 {
				waited++
			}
			err := c.on(t.Context(), c.nodes, asking, func(_ context.Context, n *node) error {
				if n.addr != "a" {
					t.Errorf("%s is asked, and the first one answers", n.addr)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if waited < 5 || waited > 12 {
			t.Errorf("it was waited for %d times in an hour", waited)
		}
		c.hung.Store(false)
		time.Sleep(longestRest + probeTime)
		for range 2 {
			if asked, _ := c.insert(t); asked != "a" {
				t.Errorf("asked %s once it stores", asked)
			}
		}
		c.hung.Store(true)
		c.insert(t)
		c.hung.Store(false)
		time.Sleep(restTime + probeTime)
		if asked, _ := c.insert(t); asked != "a" {
			t.Errorf("asked %s once it stores again: what was long ago counts", asked)
		}
	})
}

// Where servers wait for each other's quorum, all the time with several collectors, they are asked again, and not the one that hangs.
func TestQuorumIsNoFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newHungCluster(t)
		c.nodes = append(c.nodes, &node{addr: "c"})
		c.hung.Store(true)
		c.insert(t) // the first hangs
		begin, asked := time.Now(), map[string]int{}
		for range 100 {
			waits := 4 // until the quorum of before is reached
			err := c.on(t.Context(), c.nodes, storing, func(ctx context.Context, n *node) error {
				asked[n.addr]++
				if n.addr == "a" {
					return c.ask(ctx, n)
				}
				if waits--; waits >= 0 {
					return &ch.Exception{Code: 286}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begin); asked["a"] > 0 || took > time.Minute {
			t.Errorf("asked %v in %v", asked, took)
		}
	})
}
