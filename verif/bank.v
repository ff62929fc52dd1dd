// Many copies of one generated processing element, so that a bench drives all of them with one write.
//   -DELEMENT=apot_pe
`default_nettype none
module bank #(
    parameter COPIES = 64,
    parameter WEIGHT_WIDTH = 5,
    parameter ACTIVATION_WIDTH = 8,
    parameter ACCUMULATOR_WIDTH = 27
) (
    input wire clk,
    input wire rst,
    input wire enable,
    input wire clear,
    input wire [COPIES*WEIGHT_WIDTH-1:0] weights,
    input wire [COPIES*ACTIVATION_WIDTH-1:0] activations,
    output wire [COPIES*ACCUMULATOR_WIDTH-1:0] accumulators
);
  genvar i;
  generate
    for (i = 0; i < COPIES; i = i + 1) begin : copy
      `ELEMENT element (
          .clk(clk),
          .rst(rst),
          .enable(enable),
          .clear(clear),
          .weight(weights[i*WEIGHT_WIDTH+:WEIGHT_WIDTH]),
          .activation(activations[i*ACTIVATION_WIDTH+:ACTIVATION_WIDTH]),
          .accumulator(accumulators[i*ACCUMULATOR_WIDTH+:ACCUMULATOR_WIDTH])
      );
    end
  endgenerate
endmodule
`default_nettype wire
