package clickhouse

import (
	"context"
	"strings"
)

// The meta table has names and values, of which nothing is ever changed: of rows of one name the greatest value counts, or all do.

// say writes rows of meta, of a name and a value each, into a shard.
func (c *servers) say(ctx context.Context, nodes []*node, names, values []string) error {
	err := c.insert(ctx, nodes, "INSERT INTO "+c.address.Database+".meta (name, value)", []any{names, values})
	return err
}

// said returns the greatest value of each name that begins so, by what follows, as the first shard has it.
func (c *servers) said(ctx context.Context, first []*node, prefix string) (all map[string]string, err error) {
	sql := "SELECT name, max(value) FROM " + c.address.Database + ".meta WHERE name LIKE '" + prefix + "%' GROUP BY name"
	err = c.ask(ctx, first, sql, func() { all = map[string]string{} }, func(scan func(...any) error) error {
		var name, value string
		err := scan(&name, &value)
		all[strings.TrimPrefix(name, prefix)] = value
		return err
	})
	return all, err
}
