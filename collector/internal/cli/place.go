package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/search"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// lookedIn is what the words of search and report say of where to look.
type lookedIn struct {
	input string              // -if
	logs  bool                // --input-logs: not at standard input
	known string              // --from or --mismatch: only a store knows; "" for neither
	extra map[string][]string // --store, --api
	stock bool                // by the stock tool's name
}

// onePlace refuses to look in one of two places without saying so.
func (a *lookedIn) onePlace() error {
	var named []string
	if a.input != "" {
		named = append(named, "-if")
	}
	if a.input != "" && a.extra["--also"] != nil {
		return errors.New("-if and --also: only one of them can be searched")
	}
	for _, opt := range []string{"--store", "--api", "--server"} {
		values := a.extra[opt]
		if len(values) > 0 {
			named = append(named, opt)
		}
		for i := 1; i < len(values); i++ {
			if values[i] != values[0] {
				return fmt.Errorf("%s: %w", opt, command.Twice(values[0], values[i]))
			}
		}
	}
	switch {
	case len(named) > 1:
		return fmt.Errorf("%s and %s: only one of them can be searched", named[0], named[1])
	case a.input != "" && a.known != "":
		return fromFile(a.known)
	}
	return whereOf(a.extra).check()
}

// senderOption is the option, if any, by which a search asks for what only a store knows.
func senderOption(from, mismatch bool) string {
	switch {
	case from:
		return "--from"
	case mismatch:
		return "--mismatch"
	}
	return ""
}

// fromFile is why such an option does not go with logs.
func fromFile(opt string) error {
	return fmt.Errorf("%s: a log does not say who sent its records, a collector's store does", opt)
}

// pipeNote is when it is said that a pipe is waited for.
const pipeNote = 3 * time.Second

// begin prints the notes on a command's words, and says whether its log comes in by a pipe.
func (p *program) begin(ctx context.Context, notes []string, a *lookedIn, screen *terminal.Screen) (piped bool, err error) {
	for _, note := range notes {
		fmt.Fprintln(screen.Err, note)
	}
	piped, err = p.piped(ctx, a, screen)
	if err == nil && piped && a.known != "" {
		err = fromFile(a.known)
	}
	return piped, err
}

// end closes the screen of a command, and returns the command's exit code: 0 where the reader
// has left.
func (p *program) end(screen *terminal.Screen, name string, code int) int {
	if err := screen.Close(); err != nil {
		fmt.Fprintf(p.stdio.Err, "%s: %v\n", name, err)
	}
	if screen.Left() {
		return 0
	}
	return code
}

// piped says whether the log comes in by a pipe, as the stock tools read it when no option
// says where else to look. They read any pipe, also that which cron leaves its jobs, in
// which nothing ever comes; by our own names, a pipe that ends without a byte is none.
func (p *program) piped(ctx context.Context, a *lookedIn, screen *terminal.Screen) (bool, error) {
	if a.input != "" || a.logs || a.extra["--store"] != nil || a.extra["--api"] != nil || a.extra["--server"] != nil || a.extra["--also"] != nil || p.stdio.In == nil {
		return false, nil
	}
	info, err := p.stdio.In.Stat()
	if err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		return false, nil //nolint:nilerr // what cannot be looked at is closed
	}
	if a.stock {
		return true, nil
	}
	return p.comes(ctx, screen)
}

// comes waits until standard input, a pipe, has a byte or ends.
func (p *program) comes(ctx context.Context, screen *terminal.Screen) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(p.stdio.In.Fd()), Events: unix.POLLIN}}
	const slice = 250 * time.Millisecond
	for waited := time.Duration(0); ; waited += slice {
		if waited == pipeNote {
			fmt.Fprintln(screen.Err, "NOTE - waiting for a log on standard input, which is a pipe; --input-logs searches the collector's store")
		}
		n, err := unix.Poll(fds, int(slice/time.Millisecond))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return false, fmt.Errorf("wait for standard input: %w", err)
		case n > 0:
			return fds[0].Revents&unix.POLLIN != 0, nil
		}
		if err := ctx.Err(); err != nil {
			return false, fmt.Errorf("wait for standard input: %w", err)
		}
	}
}

// wrong says what is wrong with the words of search or report, and returns the exit code.
func (p *program) wrong(err error, name string, stock bool) int {
	fmt.Fprintln(p.stdio.Err, err)
	if stock {
		return 1
	}
	fmt.Fprint(p.stdio.Err, command.Try("collector "+name))
	return search.CodeError
}
