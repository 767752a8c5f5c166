package cli

import (
	"context"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

// TestReportOnTerminal shows a report in a pager, with bars as wide as the terminal.
func TestReportOnTerminal(t *testing.T) {
	tty, shown := need.Terminal(t, 70)
	t.Setenv("PAGER", "sed 's/^/paged:/'")
	t.Setenv("TERM", "xterm")
	code := Run(context.Background(), []string{"forwarder", "report", "-if", "../../../pkg/search/testdata/kernel-raw.log", "--by", "key"},
		Stdio{Out: tty, Err: tty}, "v-test")
	text := shown()
	if code != 0 || !strings.HasPrefix(text, "paged:key") || !strings.Contains(text, "█") {
		t.Errorf("exit %d: %q", code, text)
	}
	for line := range strings.Lines(text) {
		if w := len([]rune(strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "paged:"))); w > 70 {
			t.Errorf("%d columns: %q", w, line)
		}
	}
}
