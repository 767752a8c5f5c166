package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/integration/need"
)

// TestReportOnTerminal shows a report in a pager, with bars as wide as the terminal.
func TestReportOnTerminal(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		need.Missing(t, "no pseudo terminals: "+err.Error())
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 70}); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PAGER", "sed 's/^/paged:/'")
	t.Setenv("TERM", "xterm")
	shown := make(chan string)
	go func() {
		b, _ := io.ReadAll(master) // ends in EIO when the last of the other end is closed
		shown <- string(b)
	}()
	code := Run(context.Background(), []string{"forwarder", "report", "-if", "../../../pkg/search/testdata/kernel-raw.log", "--by", "key"},
		Stdio{Out: tty, Err: tty}, "v-test")
	tty.Close()
	text := strings.ReplaceAll(<-shown, "\r\n", "\n")
	if code != 0 || !strings.HasPrefix(text, "paged:key") || !strings.Contains(text, "█") {
		t.Errorf("exit %d: %q", code, text)
	}
	for line := range strings.Lines(text) {
		if w := len([]rune(strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "paged:"))); w > 70 {
			t.Errorf("%d columns: %q", w, line)
		}
	}
}
