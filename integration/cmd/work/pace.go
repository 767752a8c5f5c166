package main

import (
	"errors"
	"flag"
	"fmt"
	"syscall"
	"time"
)

// execs runs a program again and again, at a rate or as fast as it can. The time
// between a start and its end is the program's as its user feels it: the pauses of
// a rate are left out.
func execs(args []string) error {
	set := flag.NewFlagSet("exec", flag.ContinueOnError)
	n := set.Int("n", 100, "times")
	rate := set.Int("rate", 0, "times a second; 0: as fast as possible")
	if err := set.Parse(args); err != nil {
		return err
	}
	if set.NArg() != 1 {
		return errors.New(usage)
	}
	program := set.Arg(0)
	var busy time.Duration
	begin := time.Now()
	for i := range *n {
		if *rate > 0 {
			time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(*rate))))
		}
		start := time.Now()
		pid, err := syscall.ForkExec(program, []string{program}, &syscall.ProcAttr{})
		if err != nil {
			return fmt.Errorf("exec %s: %w", program, err)
		}
		var status syscall.WaitStatus
		for {
			if _, err = syscall.Wait4(pid, &status, 0, nil); !errors.Is(err, syscall.EINTR) {
				break
			}
		}
		if err != nil || status.ExitStatus() != 0 {
			return fmt.Errorf("%s: status %#x, %w", program, status, err)
		}
		busy += time.Since(start)
	}
	fmt.Println(*n, time.Since(begin).Nanoseconds(), busy.Nanoseconds())
	return nil
}

// getppid makes the cheapest call there is, so that nearly all of an audited
// one's cost is the audit's.
func getppid(args []string) error {
	set := flag.NewFlagSet("getppid", flag.ContinueOnError)
	n := set.Int("n", 1000, "calls")
	if err := set.Parse(args); err != nil {
		return err
	}
	begin := time.Now()
	for range *n {
		syscall.Getppid()
	}
	took := time.Since(begin).Nanoseconds()
	fmt.Println(*n, took, took)
	return nil
}
