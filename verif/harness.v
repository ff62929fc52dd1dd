// Drives an accelerator from memory: all packet words come from one array and all responses go to another,
// so a bench loads and reads them in bulk and the simulator runs undisturbed in between.
//
// `source_gaps` and `sink_gaps` are patterns of 32 cycles: a 1 pauses the stream in that cycle.
`timescale 1ns/1ps
module harness #(
    parameter SOURCE_WORDS = 1024,
    parameter SINK_WORDS = 1024
) (
    input clk,
    input rst,
    input [31:0] source_count,
    input [31:0] sink_count,
    input [31:0] source_gaps,
    input [31:0] sink_gaps,
    output reg [31:0] sent,
    output reg [31:0] received,
    output reg [31:0] cycles,
    output reg [31:0] busy_cycles,
    output reg [31:0] broken,
    output done
);
    // Bit 32 of a word is `last`.
    reg [32:0] source [0:SOURCE_WORDS-1];
    reg [32:0] sink [0:SINK_WORDS-1];
    reg [1023:0] file;
    initial if ($value$plusargs("source=%s", file)) $readmemh(file, source);

    reg [31:0] source_pattern, sink_pattern;
    reg [32:0] held;
    reg holding, offered;
    wire [32:0] word = source[sent];
    wire input_valid = sent < source_count && (offered || !source_pattern[0]);
    wire input_ready, output_valid, output_last, busy;
    wire [31:0] output_data;
    wire output_ready = !sink_pattern[0];
    assign done = received >= sink_count && sent >= source_count;

    always @(posedge clk)
        if (rst) begin
            {sent, received, cycles, busy_cycles, broken} <= 0;
            {holding, offered} <= 0;
            source_pattern <= source_gaps;
            sink_pattern <= sink_gaps;
        end else begin
            source_pattern <= {source_pattern[0], source_pattern[31:1]};
            sink_pattern <= {sink_pattern[0], sink_pattern[31:1]};
            // An offer stands until it is taken.
            offered <= input_valid && !input_ready;
            if (input_valid && input_ready) sent <= sent + 1;
            if (output_valid && output_ready) begin
                sink[received] <= {output_last, output_data};
                received <= received + 1;
            end
            // The accelerator's own offers must stand too.
            holding <= output_valid && !output_ready;
            held <= {output_last, output_data};
            if (holding && (!output_valid || held != {output_last, output_data})) broken <= broken + 1;
            cycles <= cycles + 1;
            if (busy) busy_cycles <= busy_cycles + 1;
        end

`ifdef SNAPSHOTS
    snapshots #(.ENTRIES(`SNAPSHOTS)) snapshots (.clk(clk), .busy_cycles(busy_cycles));
`endif

    accelerator dut (
        .clk(clk),
        .rst(rst),
        .input_data(word[31:0]),
        .input_last(word[32]),
        .input_valid(input_valid),
        .input_ready(input_ready),
        .output_data(output_data),
        .output_last(output_last),
        .output_valid(output_valid),
        .output_ready(output_ready),
        .busy(busy)
    );
endmodule
