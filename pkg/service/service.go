// Package service is a daemon's side of a service manager such as systemd: it tells the manager
// when the daemon is ready, reloads, stops and lives (sd_notify(3)), and writes log lines as the
// journal takes them. Without a manager everything here does nothing. It imports nothing of
// ours; the programs' command lines and wiring may import it.
package service

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The variables by which a service manager says what it wants to hear. They are removed
// once read: a plugin or program of an action, which inherits the environment, must not
// speak for the daemon.
const (
	socketVar  = "NOTIFY_SOCKET"
	timeoutVar = "WATCHDOG_USEC"
	pidVar     = "WATCHDOG_PID"
)

const (
	// startTick is how often the manager is told that a start goes on, startGrace how much
	// longer it then waits.
	startTick  = 15 * time.Second
	startGrace = time.Minute
	// looksAWatch is how often the watchdog's time is divided: so often the turns are looked at.
	looksAWatch = 4
)

// Manager is the service manager that has started this process. A nil Manager is none: each
// method may be called and does nothing. Any goroutine may call its methods.
type Manager struct {
	tell    func(message string) // nil: nobody listens
	timeout time.Duration

	mu     sync.Mutex // guards status, and keeps messages in order
	status string     // as last said
}

// Find returns the manager that the environment names, and removes it from there. A
// malformed environment is an error, and the Manager that is returned with it does what can
// be done.
func Find() (*Manager, error) {
	m := &Manager{}
	socket, usec, pid := os.Getenv(socketVar), os.Getenv(timeoutVar), os.Getenv(pidVar)
	for _, name := range []string{socketVar, timeoutVar, pidVar} {
		if err := os.Unsetenv(name); err != nil {
			return m, err
		}
	}
	if socket == "" {
		return m, nil
	}
	m.tell = func(message string) { send(socket, message) }
	if usec == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return m, nil
	}
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 || n > int64(24*time.Hour/time.Microsecond) {
		return m, fmt.Errorf("%s = %q is no time: the watchdog is told nothing", timeoutVar, usec)
	}
	m.timeout = time.Duration(n) * time.Microsecond
	return m, nil
}

// To returns a manager that is told by a function, one call at a time, and has a watchdog of
// that time, 0 for none.
func To(tell func(message string), watchdog time.Duration) *Manager {
	return &Manager{tell: tell, timeout: watchdog}
}

// Starting tells the manager, until stop is called, that the start goes on: one that takes
// longer than TimeoutStartSec would be ended, and begin anew each time, for ever.
func (m *Manager) Starting(status string) (stop func()) {
	if m == nil || m.tell == nil {
		return func() {}
	}
	m.say(status)
	extend := fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", startGrace.Microseconds())
	return repeat(startTick, func() { m.send(extend) })
}

// Ready says that the daemon works, and what it does in words.
func (m *Manager) Ready(status string) { m.say(status, "READY=1") }

// Reloading says that the configuration is read again; Reloaded must follow.
func (m *Manager) Reloading() {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // never fails
	m.say("", "RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/int64(time.Microsecond)))
}

// Reloaded says that the daemon works as before. problem is why the configuration was not
// taken over, and stands in the status until a reload that is; nil: it was.
func (m *Manager) Reloaded(problem error) {
	if m == nil {
		return
	}
	m.mu.Lock()
	status := m.status
	m.mu.Unlock()
	if problem != nil {
		status += "; the configuration was not read again: " + problem.Error()
	}
	m.send("READY=1\nSTATUS=" + oneLine(status))
}

// Stopping says that the daemon ends.
func (m *Manager) Stopping() { m.say("", "STOPPING=1") }

// Watch tells the manager's watchdog, where it has one, that the daemon lives, for as long as
// turns grows: it counts the turns of the loop that must not hang. stop ends it.
func (m *Manager) Watch(turns func() uint64) (stop func()) {
	if m == nil || m.timeout <= 0 {
		return func() {}
	}
	before, first := uint64(0), true
	return repeat(m.timeout/looksAWatch, func() {
		if now := turns(); first || now != before {
			before, first = now, false
			m.send("WATCHDOG=1")
		}
	})
}

// Watched returns the watchdog's time, 0 where there is none.
func (m *Manager) Watched() time.Duration {
	if m == nil {
		return 0
	}
	return m.timeout
}

// say sends assignments, and a status where it is not "".
func (m *Manager) say(status string, assignments ...string) {
	if m == nil {
		return
	}
	if status != "" {
		m.mu.Lock()
		m.status = status
		m.mu.Unlock()
		assignments = append(assignments, "STATUS="+oneLine(status))
	}
	m.send(strings.Join(assignments, "\n"))
}

// mostStatus bounds a status: systemd passes over a whole message of more than 4096 bytes, with
// the READY=1 in it, and takes the daemon for one that reloads for ever.
const mostStatus = 1024

// oneLine makes a text fit for a status, whatever a file's line that it quotes has. A newline
// would begin another assignment, a zero byte has systemd pass over the message, and what is
// not UTF-8 over the status.
func oneLine(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\n", "; ")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text)
	if len(text) > mostStatus {
		text = strings.ToValidUTF8(text[:mostStatus], "") + "…"
	}
	return text
}

func (m *Manager) send(message string) {
	if m.tell == nil || message == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tell(message)
}

// send sends one message to a socket. Nothing depends on it: a manager that is gone, or does
// not listen, is nobody's trouble.
func send(socket, message string) {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()                    // said is said
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second)) // a full socket must not hold up a daemon
	_, _ = conn.Write([]byte(message))
}

// repeat calls f now and every so often from a goroutine that stop ends and joins; stop may
// be called again.
func repeat(every time.Duration, f func()) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			f()
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	}()
	var once sync.Once
	return func() {
		once.Do(func() { close(done) })
		<-ended
	}
}
