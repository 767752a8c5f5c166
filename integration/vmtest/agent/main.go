// Command agent runs in a guest of vmtest, and does what its host asks over the virtio
// port: it runs a command and answers with what that printed and how it ended. It begins
// with a line that names this boot. The host's side is integration/vmtest/lab.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

type request struct {
	ID      int
	Command string        // for sh -c
	Input   []byte        // its standard input
	Timeout time.Duration // then it is killed, and what it started with it
}

type answer struct {
	ID       int
	Boot     string // instead of all others: the agent has started
	Code     int    // -1: it could not be started, or was killed
	Out, Err []byte
}

func main() {
	fmt.Fprintln(os.Stderr, "vmtest-agent:", serve())
	os.Exit(1)
}

// serve answers until the port fails, and says why.
func serve() error {
	port, err := open()
	if err != nil {
		return err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	var mu sync.Mutex // guards out: commands end side by side
	out := json.NewEncoder(port)
	if err := out.Encode(answer{Boot: strings.TrimSpace(string(boot))}); err != nil {
		return err
	}
	lines := bufio.NewReader(port)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return err
		}
		var asked request
		if err := json.Unmarshal(line, &asked); err != nil {
			continue // half a line of before the guest started
		}
		go func() {
			a := run(asked)
			mu.Lock()
			defer mu.Unlock()
			_ = out.Encode(a) // a host that has gone asks again
		}()
	}
}

// open waits for the port: udev need not have run.
func open() (*os.File, error) {
	for range 600 {
		if ports, _ := filepath.Glob("/dev/vport*p1"); len(ports) > 0 {
			return os.OpenFile(ports[0], os.O_RDWR, 0)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil, errors.New("there is no virtio port")
}

func run(asked request) answer {
	ctx, cancel := context.WithTimeout(context.Background(), asked.Timeout)
	defer cancel()
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", asked.Command)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(asked.Input), &out, &said
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // a daemon it has left may hold its output
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		return answer{ID: asked.ID, Code: -1, Err: []byte(err.Error())}
	}
	a := answer{ID: asked.ID, Code: cmd.ProcessState.ExitCode(), Out: out.Bytes(), Err: said.Bytes()}
	if ctx.Err() != nil {
		a.Code, a.Err = -1, append(a.Err, "vmtest-agent: killed: it took too long"...)
	}
	return a
}
