package trace

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
)

// The names the helpers are called by.
const (
	childName = "auditfleet-trace-child"
	guardName = "auditfleet-trace-guard"
)

// The child's ends of two pipes: it says that it is ready on one and waits for
// a byte on the other.
const (
	goFD    = 3
	readyFD = 4
)

// exitHelper is a helper's exit code when it can't do its work.
const exitHelper = 1

// The child has one thread for all it does, its first: a login uid, and the session with it, is a
// thread's own, only the first may set it by /proc/self, and what another thread executes has the
// session that thread had. Only as main begins is it sure to be the first.
func init() {
	if len(os.Args) > 0 && os.Args[0] == childName {
		runtime.LockOSThread()
	}
}

// Helper runs a helper of a trace when args[0] names one: isHelper is then true, and code
// the exit code. main must call it before anything else.
func Helper(args []string) (code int, isHelper bool) {
	if len(args) == 0 {
		return 0, false
	}
	switch args[0] {
	case childName:
		return child(args[1:]), true
	case guardName:
		return guard(os.Stdin, kernel.Dial), true
	}
	return 0, false
}

// child waits for the rules and becomes the program: args are "session" or "",
// the program's path, and its arguments with its own name first.
func child(args []string) int {
	if len(args) < 3 {
		fmt.Fprintln(os.Stderr, "this is started by trace only")
		return exitHelper
	}
	unix.CloseOnExec(goFD)
	ready := os.NewFile(readyFD, "ready")
	session := ""
	if args[0] == "session" {
		n, err := newSession()
		if err != nil {
			session = "no " + err.Error()
		} else {
			session = strconv.FormatUint(uint64(n), 10)
		}
	}
	_, err := io.WriteString(ready, session+"\n")
	if cerr := ready.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return exitHelper
	}
	var b [1]byte
	for {
		n, err := unix.Read(goFD, b[:])
		if err == unix.EINTR {
			continue
		}
		if n != 1 {
			return exitHelper // the tracer is gone: the program must not run unseen
		}
		break
	}
	err = unix.Exec(args[1], args[2:], os.Environ())
	fmt.Fprintf(os.Stderr, "Failed to exec %s: %v\n", args[1], err)
	return exitHelper
}

// newSession gives this process an audit session of its own, which all its
// children will be in. Its login uid stays, or becomes its user where it had none.
func newSession() (uint32, error) {
	const file = "/proc/self/loginuid"
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	uid := strings.TrimSpace(string(b))
	if uid == strconv.FormatUint(uint64(^uint32(0)), 10) {
		uid = strconv.Itoa(os.Getuid())
	}
	if err := os.WriteFile(file, []byte(uid), 0); err != nil {
		return 0, err
	}
	b, err = os.ReadFile("/proc/self/sessionid")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32)
	if err != nil {
		return 0, err
	}
	return uint32(n), nil
}

// duties are what is to be put right when the tracer is gone.
type duties struct {
	Rules  [][]byte `json:"rules"`
	Enable bool     `json:"enable"` // audit was switched on for the trace
}

// guard reads the tracer's duties from in, a line each time they change. When in ends
// without the word that all is done, it does the last it was told.
func guard(in io.Reader, dial func() (*kernel.Conn, error)) int {
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	r := bufio.NewReaderSize(in, 64<<10)
	var d *duties
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			break
		}
		if string(line) == "done\n" {
			return 0
		}
		d = &duties{}
		if err := json.Unmarshal(line, d); err != nil {
			return exitHelper
		}
	}
	if d == nil {
		return 0 // gone before anything was done
	}
	conn, err := dial()
	if err != nil {
		return exitHelper
	}
	defer func() { _ = conn.Close() }()
	if err := d.carryOut(conn); err != nil {
		return exitHelper
	}
	return 0
}

// guarding is the tracer's side of its guard.
type guarding struct {
	cmd *exec.Cmd
	in  io.WriteCloser
}

func startGuard(d duties) (*guarding, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{guardName}
	cmd.Dir = "/"
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true} // out of reach of the terminal's signals
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	g := &guarding{cmd, in}
	if err := g.tell(d); err != nil {
		g.dismiss()
		return nil, err
	}
	return g, nil
}

// tell says what is to be put right from now on.
func (g *guarding) tell(d duties) error {
	if err := json.NewEncoder(g.in).Encode(d); err != nil {
		return fmt.Errorf("tell the guard: %w", err)
	}
	return nil
}

// dismiss tells the guard that all is done.
func (g *guarding) dismiss() {
	io.WriteString(g.in, "done\n") // if the guard is gone there is nobody to tell
	g.in.Close()
	_ = g.cmd.Wait() // how it ended changes nothing
}
