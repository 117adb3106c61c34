//! A plugin in Zig: devices whose byte at position n is the last byte of n * n.
//!
//!   zig build-lib -dynamic -O ReleaseSafe --name squares --dep pactio -Mroot=squares.zig -Mpactio=../../sdk/include/pactio/pactio.zig
//!   pactio --plugin-path . hexdump 'squares:64'

const std = @import("std");
const pactio = @import("pactio");

const json =
    \\{"pactio":1,"door":"c","abi":"1.0","needs":"1.0","id":"squares","version":"1.0.0","license":"MIT OR Apache-2.0",
    \\"description":"squares of positions","schemes":["squares"],"check":"squares:100000"}
;

export const pactio_manifest: [json.len:0]u8 linksection(".pactio") = json.*;

export const pactio_plugin_v1: pactio.Plugin = .{ .manifest = &pactio_manifest, .manifest_len = json.len, .open = open };

const ops: pactio.DeviceOps = .{ .close = close, .info = info, .read = read };

// The device has no state but its size, which takes the place of the pointer.
fn sizeOf(self: ?*anyopaque) u64 {
    return @intFromPtr(self);
}

fn close(_: ?*anyopaque) callconv(.c) void {}

fn info(self: ?*anyopaque, out: *pactio.Info) callconv(.c) void {
    out.flags = pactio.readable;
    out.device_size = sizeOf(self);
}

fn read(self: ?*anyopaque, request: *const pactio.Request) callconv(.c) pactio.Answer {
    const size = sizeOf(self);
    if (request.position >= size) return if (request.len == 0) 0 else pactio.end;
    const done: usize = @intCast(@min(request.len, size - request.position));
    for (request.data[0..done], 0..) |*byte, at| {
        const position = request.position + at;
        byte.* = @truncate(position *% position);
    }
    return @intCast(done);
}

fn open(request: *const pactio.Open, out: *pactio.Device, failure: *pactio.Error) callconv(.c) u32 {
    const target = request.target.data[0..request.target.len];
    const size = std.fmt.parseInt(usize, target, 10) catch
        return pactio.refuse(failure, 5, "the target is no number of bytes; try squares:4096");
    out.* = .{ .self = @ptrFromInt(size), .ops = &ops };
    return 0;
}
