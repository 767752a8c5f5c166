package main

func (b *bench) beside() error { return nil }
