package server

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/retention"
)

// A host's events are dropped when their own time is over, and the rest of their days stays.
func TestRetainByClass(t *testing.T) {
	t.Parallel()
	r, cl := fourDays(t, func(c *Config) {
		c.Compact = true
		if err := c.Retention.Rules.Add("web*: 2d"); err != nil {
			t.Fatal(err)
		}
	})
	for r.compaction.one(context.Background()) {
		continue
	}
	rest := r.retention.Limits().Rules.Classes().Rest()
	classes := func() string {
		st, err := r.store.Stats(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, p := range st.Parts {
			name := strings.Replace(p.Class, rest, "rest", 1)
			if p.Events == 0 {
				name += " empty"
			}
			out = append(out, fmt.Sprintf("%s %q", p.Day, name))
		}
		return strings.Join(out, "\n")
	}
	want := ""
	for before := 3; before >= 1; before-- {
		cl.day(before)
		day := cl.now().UTC().Format("2006-01-02")
		if before == 3 { // the collector's own records of its start
			want += fmt.Sprintf("%s \"rest\"\n", day)
		} else { // it has the day's account
			want += fmt.Sprintf("%s \"rest empty\"\n", day)
		}
		if before == 1 { // the others are more than two days old
			want += fmt.Sprintf("%s \"web*\"\n", day)
		}
	}
	cl.day(0)
	want += fmt.Sprintf("%s \"\"", cl.now().UTC().Format("2006-01-02"))
	r.retention.Apply()
	var now string
	eventually(t, "what is over is dropped", func() bool { now = classes(); return now == want })
	found := raws(t, r.head.Scan, "web1")
	if n := strings.Count(strings.Join(found, "\n"), "node=web1 "); n != 2 {
		t.Errorf("%d records of web1 are left:\n%s", n, strings.Join(found, "\n"))
	}
	eventually(t, "it is recorded", func() bool { return strings.Count(r.ownText(), "reason=retain") == 2 })
	if text := r.report(); !strings.Contains(text, "kept of web* = 2d: 1 partitions, 1 events") || !strings.Contains(text, "kept of others = all: 3 partitions") {
		t.Errorf("the state says\n%s", text)
	}
}

// Rules without compaction would do nothing, and are refused.
func TestRetainNeedsCompaction(t *testing.T) {
	cfg := testConfig(shortDir(t))
	cfg.Retention = retention.Limits{}
	if err := cfg.Retention.Rules.Add("key noise: 7d"); err != nil {
		t.Fatal(err)
	}
	if err := Check(cfg); err == nil || !strings.Contains(err.Error(), "compact = yes") {
		t.Errorf("rules without compaction: %v", err)
	}
}
