package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// dialTime is how long a server may take to take a connection, and nodeTime how long what is asked of one at first.
const (
	dialTime = 10 * time.Second
	nodeTime = 30 * time.Second
	// answerTime is how long one answer may take; silentTime bounds each read of it.
	answerTime = 24 * time.Hour
	// lookTime is how long a server may take to say whether it has all: it looks into its memory.
	lookTime = 10 * time.Second
	// pool is how many connections to one server there may be.
	pool = 16
)

// node is one server.
type node struct {
	addr string
	conn driver.Conn // a pool, which connects when it is used

	shard atomic.Value // the macro that says which it is in, a string; none: not met yet
	mu    sync.Mutex   // guards what follows, and is held while the server is met
	tried time.Time    // when it was last met in vain
	said  bool         // that was said

	meeting atomic.Bool // by meetLater
	health  [works]health
}

// servers are those of a cluster, and what is known of them.
type servers struct {
	address *Address
	log     hclog.Logger
	nodes   []*node
	begun   time.Time // servers.now counts from it
	// readOnly: see Options.
	readOnly bool

	ctx   context.Context // ends with close
	end   context.CancelFunc
	meets sync.WaitGroup // with servers that nobody waits for

	fault func() error                             // of tests: called before and behind each insert, which fails with its error; nil: none
	probe func(ctx context.Context, n *node) error // of tests: asks a server instead of answers; nil: none
}

func connect(a *Address, log hclog.Logger, readOnly bool) (*servers, error) {
	password, tls, err := a.secrets()
	if err != nil {
		return nil, err
	}
	c := &servers{address: a, log: log, readOnly: readOnly, begun: time.Now()}
	c.ctx, c.end = context.WithCancel(context.Background())
	for _, addr := range a.Nodes {
		conn, err := ch.Open(&ch.Options{
			Addr: []string{addr}, Auth: ch.Auth{Username: a.User, Password: password}, DialContext: dialer(tls),
			DialTimeout: dialTime, ReadTimeout: answerTime, MaxOpenConns: pool, MaxIdleConns: 2, ConnMaxLifetime: time.Hour,
			Compression: &ch.Compression{Method: ch.CompressionLZ4},
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", addr, err), c.close())
		}
		c.nodes = append(c.nodes, &node{addr: addr, conn: conn})
	}
	return c, nil
}

func (c *servers) close() (err error) {
	c.end()
	c.meets.Wait()
	for _, n := range c.nodes {
		err = errors.Join(err, n.conn.Close())
	}
	return err
}

// again is how long a server that was not reached is left alone.
const again = 2 * time.Second

// meet asks a server which shard it is in, once, and makes the tables there.
func (c *servers) meet(ctx context.Context, n *node) (shard string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if shard := n.known(); shard != "" {
		return shard, nil
	}
	if time.Since(n.tried) < again {
		return "", fmt.Errorf("%s was not reached just now", n.addr)
	}
	ctx, cancel := context.WithTimeout(ctx, nodeTime)
	defer cancel()
	defer func() {
		if err != nil {
			n.tried, err = time.Now(), fmt.Errorf("%s: %w", n.addr, explain(err))
			if !n.said && ctx.Err() == nil {
				c.log.Warn("a server of the cluster cannot be used", "error", err)
			}
			n.said = true
		}
	}()
	rows, err := n.conn.Query(ctx, "SELECT macro, substitution FROM system.macros")
	if err != nil {
		return "", err
	}
	macros := map[string]string{}
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return "", errors.Join(err, rows.Close())
		}
		macros[name] = value
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return "", err
	}
	if macros["shard"] == "" || macros["replica"] == "" {
		return "", errors.New("its configuration has no macros called shard and replica, by which ClickHouse knows its copies: set both in config.xml")
	}
	if err := n.prepare(ctx, c.address, c.readOnly); err != nil {
		return "", err
	}
	n.shard.Store(macros["shard"])
	return macros["shard"], nil
}

// shards returns the names of all shards, in order, each with the servers in it that were met. It fails while one is not known: where an event
// belongs, and what an answer has, depends on all of them. Once all are known it waits for no further server.
func (c *servers) shards(ctx context.Context) (names []string, of map[string][]*node, err error) {
	of = map[string][]*node{}
	var strange []*node // not met yet
	for _, n := range c.nodes {
		if shard := n.known(); shard != "" {
			of[shard] = append(of[shard], n)
		} else {
			strange = append(strange, n)
		}
	}
	if len(of) < c.address.Shards {
		err = c.meetAll(ctx, strange, of)
	} else {
		c.meetLater(strange)
	}
	if err != nil {
		return nil, nil, err
	}
	names = slices.Sorted(maps.Keys(of))
	if len(names) != c.address.Shards {
		return nil, nil, fmt.Errorf("%w: the servers are of %d shards (%s), and shards=%d is said: name the servers of all shards, and say how many shards there are", ErrCluster, len(names), strings.Join(names, ", "), c.address.Shards)
	}
	return names, of, nil
}

// meetLater meets servers while nobody waits; what is wrong with one is logged.
func (c *servers) meetLater(list []*node) {
	for _, n := range list {
		if c.ctx.Err() == nil && n.meeting.CompareAndSwap(false, true) {
			c.meets.Go(func() {
				defer n.meeting.Store(false)
				_, _ = c.meet(c.ctx, n)
			})
		}
	}
}

// meetAll meets servers, all at once, and adds them to those of their shards.
func (c *servers) meetAll(ctx context.Context, list []*node, of map[string][]*node) error {
	shards, errs := make([]string, len(list)), make([]error, len(list))
	var wg sync.WaitGroup
	for i, n := range list {
		wg.Go(func() { shards[i], errs[i] = c.meet(ctx, n) })
	}
	wg.Wait()
	for i, n := range list {
		if errs[i] == nil {
			of[shards[i]] = append(of[shards[i]], n)
		}
	}
	if err := errors.Join(errs...); err != nil && len(of) < c.address.Shards {
		return errors.Join(ctx.Err(), fmt.Errorf("%w: %d of %d shards are reached: %w", ErrCluster, len(of), c.address.Shards, err))
	}
	return nil
}

// known returns the server's shard; "" where it was not met.
func (n *node) known() string {
	s, _ := n.shard.Load().(string)
	return s
}

// quorum is how many replicas of a shard with so many servers have what is stored.
func (c *servers) quorum(replicas int) int {
	if c.address.Quorum > 0 {
		return c.address.Quorum
	}
	return max(replicas, c.replicas())/2 + 1
}

// replicas is how many copies each shard has by the address alone, where some servers were not met.
func (c *servers) replicas() int { return len(c.nodes) / c.address.Shards }

// rounds is how often each server of a shard is asked, and pause how long is waited before each round but the first: in all longer than the
// quarter of a minute after which ZooKeeper takes a server for dead.
const rounds = 11

func pause(round int) time.Duration { return 100 * time.Millisecond << min(round-1, 5) }

// tryTime is after how long nobody is asked again what failed before, where servers do not fail at once but hang.
const tryTime = 2 * time.Minute

// on does a work on one server of a shard, the first that can: for an error that passes it goes on to the next, and begins again.
func (c *servers) on(ctx context.Context, nodes []*node, w work, do func(ctx context.Context, n *node) error) (err error) {
	begun := time.Now()
	for round := range rounds {
		if round > 0 {
			if time.Since(begun) > tryTime {
				break
			}
			select {
			case <-ctx.Done():
				return errors.Join(ctx.Err(), fmt.Errorf("%w: %w", ErrCluster, err))
			case <-time.After(pause(round)):
			}
		}
		var failed []error
		before, waiting := err, false
		for _, n := range byHealth(nodes, w) {
			if waiting && n.health[w].last() != 0 { // the others answer, and wait for each other: not for one that hangs
				continue
			}
			err = do(ctx, n)
			if !errors.Is(ctx.Err(), context.Canceled) { // else who asked has gone away
				c.did(n, w, err)
			}
			if err == nil {
				return nil
			}
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			waiting = waiting || unsatisfied(err)
			err = fmt.Errorf("%s: %w", n.addr, explain(err))
			if ctx.Err() != nil { // what was wrong before says why
				return errors.Join(ctx.Err(), fmt.Errorf("%w: %w", ErrCluster, errors.Join(append(failed, before, err)...)))
			}
			if !passes(err) {
				return fmt.Errorf("%w: %w", ErrCluster, err)
			}
			failed = append(failed, err)
		}
		err = errors.Join(failed...)
	}
	return fmt.Errorf("%w: %w", ErrCluster, err)
}

// sequential is the setting by which a replica refuses that lacks what a quorum has.
const sequential = "select_sequential_consistency"

// reading are the settings of queries: a replica that lacks something which a quorum has refuses, and the next one is asked.
func (c *servers) reading(replicas int) ch.Settings {
	s := ch.Settings{"max_query_size": 16 << 20, "max_ast_elements": 500000, "max_expanded_ast_elements": 500000, "max_bytes_before_external_sort": 200 << 20, "max_bytes_before_external_group_by": 200 << 20}
	if c.quorum(replicas) > 1 {
		s[sequential] = 1
	}
	return s
}

// errBehind is returned for a server that may lack something which a quorum has.
var errBehind = errors.New("it is behind the other servers of its shard")

// alone says that a server of a shard with so many has nothing to be behind.
func (c *servers) alone(replicas int) bool {
	return max(replicas, c.replicas()) == 1 && c.address.Quorum == 0
}

// justStarted is for how long a server is taken for behind after it was started: how long it runs, it says in whole seconds, and who finds later that it was started
// again must be sure.
const justStarted = 4 * time.Second

// complete asks a server whether it has all that is stored in these tables of its shard, and returns when it was started: what it says of each it has asked ZooKeeper for. ClickHouse itself would answer with less, and
// select_sequential_consistency looks no further than the last thing stored: a server that lacks what came before answers, too. Each of
// the figures alone fails to tell in some state that was seen: while copies are fetched, before a server that was started again is known
// to ZooKeeper, and while ZooKeeper is away.
func (c *servers) complete(ctx context.Context, n *node, tables []string) (since time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	type table struct {
		path    string
		good    uint8
		pointer uint64 // the next entry of the log that it takes over
		last    uint64 // the last that there is
	}
	begun, up := time.Now(), uint32(0)
	rows, err := n.conn.Query(ctx, "SELECT toUInt32(uptime()), zookeeper_path, inserts_in_queue = 0 AND absolute_delay = 0 AND is_session_expired = 0 AND is_readonly = 0 AND parts_to_check = 0, log_pointer, log_max_index "+
		"FROM system.replicas WHERE database = "+quote(c.address.Database)+" AND table IN ("+quoteAll(tables)+")")
	if err != nil {
		return since, err
	}
	var list []table
	for rows.Next() {
		var t table
		if err := rows.Scan(&up, &t.path, &t.good, &t.pointer, &t.last); err != nil {
			return since, errors.Join(err, rows.Close())
		}
		list = append(list, t)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return since, err
	}
	ran := time.Duration(up) * time.Second
	if len(list) != len(tables) || ran < justStarted {
		return since, errBehind
	}
	since = begun.Add(-ran)
	for _, t := range list {
		switch {
		case t.good == 0 || t.pointer < t.last:
			return since, errBehind
		case t.pointer > t.last:
			continue
		case t.pointer > 0:
			return since, errBehind
		}
		// The log is empty, or its first entry was not taken over yet.
		var entries uint64
		if err := n.conn.QueryRow(ctx, "SELECT count() FROM system.zookeeper WHERE path = "+quote(t.path+"/log")).Scan(&entries); err != nil {
			return since, err
		}
		if entries > 0 {
			return since, errBehind
		}
	}
	return since, nil
}
