// Command work does what audit rules watch, so that tests and recordings have
// real events: bursts of one cheap system call, a mix of file and network work
// with odd names, programs run as other users in a folder of their own. It is
// built and started by the integration harness only.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
)

const usage = `work burst -n N -dir DIR [-prefix P]     N failing opens of DIR/P-000001 …
work mix -dir DIR -rounds N [-port P]    files with odd names, denied opens, sockets
work exec -n N [-rate R] PROGRAM         run PROGRAM N times, R a second; prints N, the wall time and the time in it, in ns
work getppid -n N                        N calls of getppid; prints the same
work as -auid A -uid U -gid G -root DIR -cd DIR PROGRAM ARG…`

// The kernel lets a thread set its own login uid only, and /proc/self is the first
// thread: main must run on that one.
func init() { runtime.LockOSThread() }

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "work:", err)
		os.Exit(2)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	switch args[0] {
	case "burst":
		return burst(args[1:])
	case "mix":
		return mix(args[1:])
	case "exec":
		return execs(args[1:])
	case "getppid":
		return getppid(args[1:])
	case "as":
		return as(args[1:])
	}
	return fmt.Errorf("unknown %q\n%s", args[0], usage)
}

// burst makes n events that can be told apart by their file's name.
func burst(args []string) error {
	set := flag.NewFlagSet("burst", flag.ContinueOnError)
	n := set.Int("n", 1000, "events")
	dir := set.String("dir", "", "folder of the names")
	prefix := set.String("prefix", "burst", "beginning of the names")
	if err := set.Parse(args); err != nil {
		return err
	}
	for i := 1; i <= *n; i++ {
		name := filepath.Join(*dir, fmt.Sprintf("%s-%06d", *prefix, i))
		if _, err := syscall.Open(name, syscall.O_RDONLY, 0); !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("open %s: expected that it does not exist: %w", name, err)
		}
	}
	return nil
}

// mix does in each round what services do. Failures are part of it: the events
// are what counts.
func mix(args []string) error {
	set := flag.NewFlagSet("mix", flag.ContinueOnError)
	rounds := set.Int("rounds", 10, "rounds")
	dir := set.String("dir", ".", "folder to work in")
	port := set.Int("port", 9, "TCP port on loopback to connect to")
	if err := set.Parse(args); err != nil {
		return err
	}
	names := []string{
		"report.txt", "Quarterly report (final).pdf", "naïve-übersicht.csv", "line\nbreak", `quo"te`, "tab\tname",
		"cache/entry", "a/deep/path/below/here/settings.json",
	}
	for round := range *rounds {
		for i, name := range names {
			path := filepath.Join(*dir, strconv.Itoa(round%7), name)
			_ = os.MkdirAll(filepath.Dir(path), 0o755)
			_ = os.WriteFile(path, []byte("x"), 0o640)
			switch (round + i) % 5 {
			case 0:
				_ = os.Rename(path, path+".old")
			case 1:
				_ = os.Chmod(path, 0o600)
			case 2:
				_ = os.Symlink(path, path+".link")
				_ = os.Remove(path + ".link")
			case 3:
				_ = os.Truncate(path, 0)
			}
			_ = os.Remove(path)
		}
		for _, denied := range []string{"/etc/shadow", "/root/.ssh/id_ed25519", "/var/lib/private/key.pem", "/nonexistent"} {
			if f, err := os.Open(denied); err == nil {
				f.Close()
			}
		}
		for _, at := range [][2]string{{"tcp4", "127.0.0.1:" + strconv.Itoa(*port)}, {"tcp6", "[::1]:" + strconv.Itoa(*port)}, {"unix", "/run/nobody-listens.sock"}} {
			if c, err := net.Dial(at[0], at[1]); err == nil {
				c.Close()
			}
		}
	}
	return nil
}

// as becomes another user inside root and runs a program.
func as(args []string) error {
	set := flag.NewFlagSet("as", flag.ContinueOnError)
	auid := set.Int("auid", -1, "login uid")
	uid := set.Int("uid", 0, "uid")
	gid := set.Int("gid", 0, "gid")
	root := set.String("root", "/", "folder to chroot to")
	cd := set.String("cd", "/", "working directory inside root")
	if err := set.Parse(args); err != nil {
		return err
	}
	if set.NArg() == 0 {
		return errors.New(usage)
	}
	if *auid >= 0 {
		if err := os.WriteFile("/proc/self/loginuid", []byte(strconv.Itoa(*auid)), 0); err != nil {
			return err
		}
	}
	if err := syscall.Chroot(*root); err != nil {
		return fmt.Errorf("chroot %s: %w", *root, err)
	}
	if err := os.Chdir(*cd); err != nil {
		return err
	}
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setgid(*gid); err != nil {
		return err
	}
	if err := syscall.Setuid(*uid); err != nil {
		return err
	}
	return fmt.Errorf("exec %s: %w", set.Arg(0), syscall.Exec(set.Arg(0), set.Args(), []string{"PATH=/usr/bin:/usr/sbin", "LC_ALL=C"}))
}
