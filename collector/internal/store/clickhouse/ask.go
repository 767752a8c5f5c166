package clickhouse

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/auditfleet/auditfleet/pkg/query"
)

// shard is one of a cluster for one question, which may take several statements. What is asked for was stored before the question began, so a server
// that had it once has it for all of them.
type shard struct {
	c     *servers
	nodes []*node

	mu    sync.Mutex
	whole map[*node][]string // guarded by mu: the tables of which it has all that is asked for
}

// shard returns a shard with these servers for one question.
func (c *servers) shard(nodes []*node) *shard {
	return &shard{c: c, nodes: nodes, whole: map[*node][]string{}}
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
					return nil
				}
				return err
			}
		}
		return errors.Join(rows.Err(), rows.Close())
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
	tables = slices.DeleteFunc(tables, func(t string) bool { return slices.Contains(has, t) })
	if len(tables) == 0 {
		return nil
	}
	if err := s.c.complete(ctx, n, len(s.nodes), tables); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.whole[n] = append(slices.Clip(s.whole[n]), tables...)
	return nil
}

// forget has a server asked again.
func (s *shard) forget(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.whole, n)
}
