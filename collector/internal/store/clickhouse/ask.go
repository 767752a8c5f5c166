package clickhouse

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/auditfleet/auditfleet/pkg/query"
)

// shard is one of a cluster for one question, which may take several statements. What is asked for was stored before the question began, so a server
// that had it once has it for all of them, unless it is started again: it may come back with less, and fetches the rest.
type shard struct {
	c     *servers
	nodes []*node

	mu    sync.Mutex
	whole map[*node]whole // guarded by mu
}

// whole is a server that was found to have all that is asked for of some tables.
type whole struct {
	tables []string
	since  time.Time // when it was started, at the latest a second later
}

// shard returns a shard with these servers for one question.
func (c *servers) shard(nodes []*node) *shard {
	return &shard{c: c, nodes: nodes, whole: map[*node]whole{}}
}

// ask is that of a question of one statement.
func (c *servers) ask(ctx context.Context, nodes []*node, sql string, begin func(), row func(scan func(...any) error) error) error {
	return c.shard(nodes).ask(ctx, sql, begin, row)
}

// ask runs a statement and calls row for each row of its answer, from one server alone: begin is called before a server is asked, and
// forgets what another one gave before it failed. query.ErrStop of row ends the answer without an error.
func (s *shard) ask(ctx context.Context, sql string, begin func(), row func(scan func(...any) error) error) error {
	settings := s.c.reading(len(s.nodes))
	return s.c.on(ctx, s.nodes, asking, func(ctx context.Context, n *node) (err error) {
		defer func() {
			if err != nil {
				s.forget(n)
			}
		}()
		if err := s.complete(ctx, n, s.c.read(sql)); err != nil {
			return err
		}
		begin()
		asked := ctx
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		rows, err := n.conn.Query(ch.Context(ctx, ch.WithSettings(settings)), sql)
		if s.c.lacksDeleted(ctx, n, sql, err) {
			loose := maps.Clone(settings)
			delete(loose, sequential)
			rows, err = n.conn.Query(ch.Context(ctx, ch.WithSettings(loose)), sql)
		}
		if err != nil {
			return err
		}
		for rows.Next() {
			if err := row(rows.Scan); err != nil {
				cancel() // Close would read the rest
				err = errors.Join(err, rows.Close())
				if errors.Is(err, query.ErrStop) {
					return s.stayed(asked, n)
				}
				return err
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		return s.stayed(asked, n)
	})
}

// read returns the tables that a statement reads.
func (c *servers) read(sql string) (list []string) {
	for _, t := range tables {
		if strings.Contains(sql, c.address.Database+"."+t) {
			list = append(list, t)
		}
	}
	return list
}

// complete asks a server, once a table, whether it has all that is asked for.
func (s *shard) complete(ctx context.Context, n *node, tables []string) error {
	s.mu.Lock()
	has := s.whole[n]
	s.mu.Unlock()
	tables = slices.DeleteFunc(tables, func(t string) bool { return slices.Contains(has.tables, t) })
	if len(tables) == 0 || s.c.alone(len(s.nodes)) {
		return nil
	}
	since, err := s.c.complete(ctx, n, tables)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	has = s.whole[n]
	if has.tables == nil || since.Before(has.since) {
		has.since = since
	}
	has.tables = append(slices.Clip(has.tables), tables...)
	s.whole[n] = has
	return nil
}

// stayed returns an error where a server was started again since it was found to have all: the connection that a statement went by does not tell it, for another
// question may have met the broken one.
func (s *shard) stayed(ctx context.Context, n *node) error {
	s.mu.Lock()
	has, is := s.whole[n]
	s.mu.Unlock()
	if !is {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	var up uint32
	if err := n.conn.QueryRow(ctx, "SELECT toUInt32(uptime())").Scan(&up); err != nil {
		return err
	}
	if time.Now().Add(-time.Duration(up)*time.Second).Sub(has.since) > justStarted-time.Second {
		return errBehind
	}
	return nil
}

// forget has a server asked again.
func (s *shard) forget(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.whole, n)
}
