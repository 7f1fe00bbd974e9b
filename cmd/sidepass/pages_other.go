//go:build !linux

package main

// releaseStartPages does nothing here.
func releaseStartPages() {}
